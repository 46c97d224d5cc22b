"""The module that runs a compiled kernel, and the operator of PyTorch's by which graphs contain it."""

import ctypes
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch

from pytest_quantbench.engines.torch.kernels.cpu import machine_code, tiled_job
from pytest_quantbench.engines.torch.kernels.cpu.machine_code import Instructions, MachineCode
from pytest_quantbench.engines.torch.kernels.cpu.tiled_job import CALL, Beside, Grid
from pytest_quantbench.engines.torch.kernels.cpu.writing import CACHE_LINE
from pytest_quantbench.engines.torch.kernels.protocol import Product

VARYING = CALL.index(machine_code.TILES)  # so many slots are different with every call
ARRAY = -1
BLOCK_BYTES = 2**18  # of a matrix that many tokens are multiplied with before the next ones are read


class Kind(Protocol):
    """Which products are written: a description that can be compared."""

    def grid(self, cpu: Instructions) -> Grid:
        """What writes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything on which a kernel's code depends."""

    kind: Kind
    beside: Beside
    cpu: Instructions

    @property
    def key(self) -> str:
        """By which it is found again."""
        return repr(self)


def code_slots(plan: Plan) -> tuple[str, ...]:
    """What its jobs hold after the slots that every call fills."""
    return (*CALL[VARYING:], *plan.beside.slots, *plan.kind.grid(plan.cpu).slots)


PLANS: dict[str, Plan] = {}  # those that have been made, by their keys


@cache
def code_of(key: str) -> MachineCode:
    """The compiled kernel of a plan."""
    plan = PLANS[key]
    return machine_code.compiled(tiled_job.written(plan.kind.grid(plan.cpu), plan.beside, plan.cpu))


class CpuProduct(Product):
    """(…, in) → (…, out) by a compiled kernel, in float32; other types are converted before and after."""

    def __init__(
        self,
        plan: Plan,
        arrays: Mapping[str, torch.Tensor],
        numbers: Mapping[str, int],
        kernel: str,
        covers: frozenset[str],
        shared: Collection[str] = (),
    ) -> None:
        """`arrays` become buffers; `numbers` has `rows`, `inputs`, `padded`, and what the kind of kernel wants. Arrays
        that are `shared` with other matrices stay in the cache: they are not read from memory again.
        """
        super().__init__()
        PLANS[plan.key] = plan
        for name, array in arrays.items():
            self.register_buffer(name, array if name == "weight" else aligned(array))
        self.key, self.kernel, self.covers = plan.key, kernel, covers
        self.bytes_per_token = sum(array.nbytes for name, array in arrays.items() if name not in shared)
        self.rows = numbers["rows"]
        tiles = -(-self.rows // plan.kind.grid(plan.cpu).rows)
        block = max(1, BLOCK_BYTES * tiles // (1 + self.bytes_per_token))
        known = {machine_code.TILES: tiles, "block": block, **numbers}
        slots = code_slots(plan)
        self._names = [slot for slot in slots if slot in arrays]
        self._numbers = [ARRAY if slot in arrays else known[slot] for slot in slots]
        self._job: _Job | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out), of the inputs' type."""
        y: torch.Tensor
        flat = x.reshape(-1, x.shape[-1]).to(torch.float32).contiguous()
        if torch.compiler.is_compiling() or type(x) is not torch.Tensor:
            y = cpu_product(flat, self._arrays(), self._numbers, self.rows, self.key)
        else:
            y = self.direct(flat)
        return y.reshape(*x.shape[:-1], self.rows).to(x.dtype)

    def direct(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Contiguous float32 (tokens, in) → (tokens, out), into `out` where that is given, which is contiguous too. Not
        to be called by two threads at a time.
        """
        if self._job is None:
            self._job = _Job(self.key, self._arrays(), self._numbers)
        return self._job.run(x, torch.empty(len(x), self.rows) if out is None else out)

    def _arrays(self) -> list[torch.Tensor]:
        return [getattr(self, name) for name in self._names]

    def _apply(self, *arguments: Any, **how: Any) -> "CpuProduct":
        """What moves buffers makes jobs invalid."""
        self._job = None
        result: CpuProduct = super()._apply(*arguments, **how)  # type: ignore[no-untyped-call]
        return result

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes a job of its own."""
        return {**self.__dict__, "_job": None}


def aligned(array: torch.Tensor) -> torch.Tensor:
    """In memory that begins with a cache line, as PyTorch's own does, so that no vector lies in two."""
    return array.clone() if array.data_ptr() % CACHE_LINE else array


class _Job:
    """A kernel's arguments in memory. It holds what they point to."""

    def __init__(self, key: str, arrays: Sequence[torch.Tensor], numbers: Sequence[int]) -> None:
        """`numbers`: one for every slot of a job after those of the call; ARRAY where the next array's address is."""
        self.code, self._arrays, addresses = code_of(key), arrays, iter(arrays)
        values = [next(addresses).data_ptr() if number == ARRAY else number for number in numbers]
        self._slots = (ctypes.c_int64 * len(self.code.slots))(*([0] * VARYING), *values)
        self.kept: tuple[torch.Tensor, ...] = ()  # what a call that is repeated reads and writes
        self.address = ctypes.addressof(self._slots)

    def place(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Say where the inputs (tokens, in) and the outputs (tokens, out) are."""
        slots = self._slots
        slots[0], slots[1], slots[2], slots[3] = x.data_ptr(), x.shape[1], y.data_ptr(), y.shape[1]
        slots[4] = x.shape[0]

    def again(self, address: int) -> None:
        """Do it once more, with what has been put where the inputs were."""
        self.code.run(address)

    def run(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Do it."""
        self.place(x, y)
        self.code.run(self.address)
        return y


@torch.library.custom_op("quantbench::cpu_product", mutates_args=(), device_types="cpu")
def cpu_product(x: torch.Tensor, arrays: list[torch.Tensor], numbers: list[int], rows: int, key: str) -> torch.Tensor:
    """(tokens, in) → (tokens, out) by the kernel of a plan, of which a module has been made in this process."""
    return _Job(key, arrays, numbers).run(x.contiguous(), torch.empty(len(x), rows))


@cpu_product.register_fake
def _(x: torch.Tensor, arrays: list[torch.Tensor], numbers: list[int], rows: int, key: str) -> torch.Tensor:
    return x.new_empty(len(x), rows)


def bind(given: tuple[Any, ...], out: torch.Tensor) -> tuple[Callable[[int], None], tuple[int]]:
    """From the operator's arguments and where its result goes: a function and what it is called with, again and again,
    by programs whose tensors stay where they are. It holds what it reads and where it writes: their addresses alone
    would not keep them. `given` and `out` are contiguous.
    """
    x, arrays, numbers, _, key = given
    job = _Job(key, arrays, numbers)
    job.place(x, out)
    job.kept = (x, out)
    return job.again, (job.address,)
