"""From a kernel as it is written to machine code of this CPU, run by as many threads as PyTorch uses.

Threads are those of PyTorch's own OpenMP, so that no second pool competes with it for the cores: a function that LLVM
compiles asks it which thread it is, and does its share of the tiles. Where PyTorch has another way of making threads,
kernels run on one.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import torch
from llvmlite import ir

from pytest_quantbench.engines.torch.kernels.cpu.writing import KINDS, Code, Value

TILES = "tiles"  # the slot of every job that says how many there are
ASKED = ir.FunctionType(KINDS["i32"], [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """What a CPU has that kernels are written for. `lanes`: how many float32 numbers a vector holds."""

    lanes: int
    looks_up_words: bool  # 16 numbers of 32 bits by 4-bit indices in one instruction (AVX-512 F)
    looks_up_bytes: bool  # 128 bytes by 7-bit indices in one instruction (AVX-512 VBMI)


PORTABLE = Instructions(lanes=8, looks_up_words=False, looks_up_bytes=False)  # AVX2, NEON: LLVM splits what is too long


@cache
def instructions() -> Instructions:
    """Those of this CPU."""
    there = llvm.get_host_cpu_features()
    if not there.get("avx512f"):
        return PORTABLE
    return Instructions(
        lanes=16, looks_up_words=True, looks_up_bytes=bool(there.get("avx512vbmi") and there.get("avx512bw"))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCode:
    """A compiled kernel: what its jobs hold, place by place, and the addresses at which it is called with one."""

    slots: tuple[str, ...]
    alone: Any  # called with the address of a job: does all of it
    shared: int  # the address of what every thread of a team calls
    engine: Any  # keeps the code in memory
    _kept: Any

    @property
    def assembly(self) -> str:
        """The machine code for people to read."""
        module, machine = self._kept
        text: str = machine.emit_assembly(module)
        return text

    def run(self, job: int) -> None:
        """Do a job, given by its address, by as many threads as PyTorch uses."""
        threads = torch.get_num_threads()
        if threads == 1 or _openmp() is None:
            self.alone(job)
        else:
            _openmp().GOMP_parallel(self.shared, job, threads, 0)


@cache
def _openmp() -> Any:
    """PyTorch's OpenMP, by which it makes threads; None where it has none that is called like GNU's."""
    folder = Path(torch.__file__).parent / "lib"
    for file in sorted(folder.glob("*torch_cpu.*")):
        library = ctypes.CDLL(str(file))  # what it was linked with is found through it
        if all(hasattr(library, name) for name in ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")):
            library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            library.GOMP_parallel.restype = None
            return library
    return None


def compiled(code: Code) -> MachineCode:
    """The machine code of a kernel that has been written."""
    _add_alone(code)
    if _openmp() is not None:
        _add_team(code)
    module = llvm.parse_assembly(str(code.module))
    module.verify()
    machine = _machine()
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    # The writer unrolls what is worth it, and writes vectors itself.
    tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_interleaving = False
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address("alone"))
    shared = engine.get_function_address("shared") if _openmp() is not None else 0
    return MachineCode(slots=tuple(code.slots), alone=alone, shared=shared, engine=engine, _kept=(module, machine))


@cache
def _ready() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _machine() -> Any:
    _ready()
    features = llvm.get_host_cpu_features().flatten()
    if instructions().lanes == 16:
        features += ",-prefer-256-bit"  # LLVM would halve vectors of 512 bits on some CPUs
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)


def _add_alone(code: Code) -> None:
    """`alone(job)`: all tiles."""
    other = code.beside("alone")
    code.call(other, other.number(0), other.slot(TILES))


def _add_team(code: Code) -> None:
    """`shared(job)`: this thread's share of the tiles."""
    other = code.beside("shared")
    this, threads = (_asked(other, name).to("i64", "zext") for name in ("omp_get_thread_num", "omp_get_num_threads"))
    tiles = other.slot(TILES)
    code.call(other, tiles * this // threads, tiles * (this + 1) // threads)


def _asked(code: Code, name: str) -> Value:
    """What a function of PyTorch's OpenMP answers."""
    ours = f"quantbench_{name}"  # another OpenMP may be in this process
    llvm.add_symbol(ours, ctypes.cast(getattr(_openmp(), name), ctypes.c_void_p).value)
    return Value(code, code.builder.call(ir.Function(code.module, ASKED, ours), []))
