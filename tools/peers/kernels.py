"""What kernels for a CPU take per token: a Llama of 100 million weights, product by product, and PyTorch's own beside.

    python tools/peers/kernels.py              # every kernel, with one thread
    python tools/peers/kernels.py --threads 2
    python tools/peers/kernels.py --tokens 16  # as a prompt is read
    python tools/peers/kernels.py aqlm nibble  # some of them
    python tools/peers/kernels.py --assembly "lanes, 4 bits" > kernel.s

Matrices are random, 768 and 2,048 wide, with a head of 32,000 rows, and those of one kind are multiplied one after the
other as often as a model has them, so that they come from memory. A line has milliseconds per token for the layers and
for the head, how many bytes were read per second, and what share that is of what this machine can read.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import ml_dtypes
import numpy as np
import torch
from torch.nn import functional

from pytest_quantbench.engines.torch.kernels import product_for
from pytest_quantbench.engines.torch.kernels.cpu.product import CpuProduct, code_of
from pytest_quantbench.quantizers import Array, Layer
from pytest_quantbench.quantizers.layer import Affine, Codebooks, LowRank, Microscaled, Sparse
from pytest_quantbench.quantizers.numerics import e8_lattice, vector_codes
from pytest_quantbench.quantizers.numerics.microscaled_formats import FORMATS
from pytest_quantbench.report.markdown_table import table

CPU = torch.device("cpu")
LAYERS = 12
SHAPES = [(768, 768)] * 4 + [(2048, 768)] * 2 + [(768, 2048)]  # (out, in) of a layer's matrices
HEAD = (32_000, 768)
Call = Callable[[torch.Tensor], torch.Tensor]
RNG = np.random.default_rng(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A matrix, ready to be multiplied with."""

    call: Call
    held_bytes: int
    kernel: str
    ins: int


def random_bits(*shape: int) -> Array:
    return RNG.integers(0, 2**32, shape, dtype=np.uint32)


def affine(outs: int, ins: int, bits: int, group: int, centred: bool) -> Affine:
    scales = (0.01 * RNG.standard_normal((outs, ins // group))).astype(np.float16)
    biases = -(2 ** (bits - 1)) * scales if centred else 2 * scales
    return Affine(codes=random_bits(outs, ins * bits // 32), scales=scales, biases=biases, bits=bits, in_features=ins)


def microscaled(outs: int, ins: int, name: str) -> Microscaled:
    form = FORMATS[name]
    codes = random_bits(outs, ins * form.bits // 32) & np.uint32(0x77777777)  # no NaN among those of 8 bits
    scales = np.full((outs, ins // form.group), 120 if form.powers_of_two else 40, np.uint8)
    return Microscaled(codes=codes, scales=scales, form=form, in_features=ins)


def codebooks(outs: int, ins: int, along: str) -> Codebooks:
    """Of 2 bits per weight, with words as short as methods have them on such a matrix."""
    length, stages, width = vector_codes.fit(2, outs * ins, 8, 8)
    shape = (outs, ins // length) if along == "inputs" else (outs // length, ins)
    return Codebooks(
        codes=RNG.integers(0, 2**width, (stages, *shape)).astype(np.uint8),
        words=RNG.standard_normal((stages, 2**width, length)).astype(np.float16),
        scales=np.full(outs, 0.01, ml_dtypes.bfloat16),
        along="inputs" if along == "inputs" else "outputs",
        out_features=outs,
        in_features=ins,
    )


def lattice(outs: int, ins: int) -> Codebooks:
    return Codebooks(
        codes=RNG.integers(0, 2**16, (1, outs, ins // 8)).astype(np.uint16),
        words=e8_lattice.stages(2),
        scales=np.full(1, 0.01, np.float32),
        along="inputs",
        out_features=outs,
        in_features=ins,
    )


def nibble(outs: int, ins: int) -> Layer:
    places = np.stack([RNG.integers(0, outs, 2), RNG.integers(0, ins, 2)], axis=1).astype(np.int32)
    return Layer(grid=affine(outs, ins, 4, 32, True), sparse=Sparse(places=places, values=np.ones(2, np.float16)))


def milo(outs: int, ins: int) -> Layer:
    left, right = (RNG.standard_normal((4, size)).astype(np.float32) for size in (outs, ins))
    return Layer(grid=affine(outs, ins, 3, 128, False), low_rank=LowRank(left=left, right=right))


def bfloat16(outs: int, ins: int) -> torch.Tensor:
    return torch.randn(outs, ins).bfloat16()


# What a method makes of a layer's matrices, and of the head.
LAYER: Mapping[str, Callable[[int, int], Layer]] = {
    "int8": lambda outs, ins: Layer(grid=affine(outs, ins, 8, 128, True)),
    "rtn 6": lambda outs, ins: Layer(grid=affine(outs, ins, 6, 64, False)),
    "rtn 5": lambda outs, ins: Layer(grid=affine(outs, ins, 5, 64, False)),
    "rtn 4": lambda outs, ins: Layer(grid=affine(outs, ins, 4, 64, False)),
    "nibble": nibble,
    "milo": milo,
    "rtn 2": lambda outs, ins: Layer(grid=affine(outs, ins, 2, 64, False)),
    "mxfp8": lambda outs, ins: Layer(grid=microscaled(outs, ins, "mxfp8")),
    "mxfp4": lambda outs, ins: Layer(grid=microscaled(outs, ins, "mxfp4")),
    "nvfp4": lambda outs, ins: Layer(grid=microscaled(outs, ins, "nvfp4")),
    "aqlm": lambda outs, ins: Layer(grid=codebooks(outs, ins, "inputs")),
    "vptq": lambda outs, ins: Layer(grid=codebooks(outs, ins, "outputs")),
    "quip": lambda outs, ins: Layer(grid=lattice(outs, ins)),
}
EIGHT_BITS = ("int8", "mxfp8")


def ours(name: str, outs: int, ins: int, head: bool) -> Made:
    """By the kernel that the table gives."""
    if name == "bf16":
        weight = bfloat16(outs, ins)
        module = product_for(Layer(), lambda: weight, CPU, torch.float32)
    else:
        of_head = "int8" if name in EIGHT_BITS else "rtn 4"
        module = product_for(LAYER[of_head if head else name](outs, ins), _never, CPU, torch.float32)
    direct = getattr(module, "direct", module)
    return Made(call=direct, held_bytes=module.bytes_per_token, kernel=module.kernel, ins=ins)


def _never() -> Array:
    raise AssertionError("There is a kernel for it.")


def _bf16_of_torch(outs: int, ins: int) -> Made:
    weight = bfloat16(outs, ins)
    return Made(
        call=lambda x: functional.linear(x.bfloat16(), weight), held_bytes=weight.nbytes, kernel="linear", ins=ins
    )


def _int8_of_torch(outs: int, ins: int) -> Made:
    codes, scales = torch.randint(-127, 128, (outs, ins), dtype=torch.int8), torch.full((outs,), 0.01).bfloat16()
    return Made(
        call=lambda x: torch.ops.aten._weight_int8pack_mm(x.bfloat16(), codes, scales),
        held_bytes=codes.nbytes + scales.nbytes,
        kernel="_weight_int8pack_mm, bfloat16",
        ins=ins,
    )


def _int4_of_torch(outs: int, ins: int) -> Made:
    codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(torch.randint(0, 16, (outs, ins), dtype=torch.int32), 1)
    scales = torch.full((ins // 64, outs, 2), 0.01).bfloat16()
    return Made(
        call=lambda x: torch.ops.aten._weight_int4pack_mm_for_cpu(x.bfloat16(), codes, 64, scales),
        held_bytes=codes.nbytes + scales.nbytes,
        kernel="_weight_int4pack_mm_for_cpu, bfloat16",
        ins=ins,
    )


TORCH: Mapping[str, Callable[[int, int], Made]] = {
    "torch bf16": _bf16_of_torch,
    "torch int8": _int8_of_torch,
    "torch int4": _int4_of_torch,
}
NAMES = ("bf16", *LAYER, *TORCH)


def made(name: str) -> tuple[list[Made], list[Made]]:
    """The matrices of all layers, and the head."""
    make = (lambda outs, ins, head: TORCH[name](outs, ins)) if name in TORCH else (lambda *shape: ours(name, *shape))
    return [make(*shape, False) for _ in range(LAYERS) for shape in SHAPES], [make(*HEAD, True)]


def seconds(parts: Sequence[Sequence[Made]], tokens: int) -> tuple[float, ...]:
    """Of going through all of them once, part by part, in the best of several rounds: CPU seconds of one thread, which
    others' work does not touch, or seconds on the wall of several.
    """
    inputs = {ins: torch.randn(tokens, ins) for ins in {each.ins for part in parts for each in part}}
    clock = _clock()
    rounds = []
    for _ in range(10):
        times = [clock()]
        for part in parts:
            for each in part:
                each.call(inputs[each.ins])
            times.append(clock())
        rounds.append(tuple(after - before for before, after in pairwise(times)))
    return min(rounds[1:], key=sum)


def read_bytes_per_second() -> float:
    """Of a sum of an array that is much larger than the caches, by the same clock."""
    held = torch.ones(2**25, dtype=torch.int64)
    clock, spent = _clock(), []
    for _ in range(5):
        began = clock()
        held.sum()
        spent.append(clock() - began)
    return held.nbytes / min(spent[1:])


def _clock() -> Callable[[], float]:
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def lines(names: Sequence[str], tokens: int) -> Iterator[list[str]]:
    """A line for each, as soon as it is measured."""
    for name in names:
        layers, head = made(name)
        both = seconds((layers, head), tokens)
        rate = sum(each.held_bytes for each in (*layers, *head)) / sum(both)
        bandwidth = read_bytes_per_second()
        times = [f"{1e3 * spent / tokens:.2f}" for spent in (sum(both), *both)]
        kernels = ", ".join(sorted({each.kernel for each in layers}))
        print(name, *times, file=sys.stderr)
        yield [name, *times, f"{rate / 1e9:.1f}", f"{rate / bandwidth:.0%}", kernels]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=1)
    parser.add_argument("--assembly", metavar="KERNEL", help="print a kernel's machine code instead")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.assembly:
        modules = [product_for(make(96, 768), _never, CPU, torch.float32) for make in LAYER.values()]
        (found, *_) = [each for each in modules if each.kernel == chosen.assembly]
        assert isinstance(found, CpuProduct)
        print(code_of(found.key).assembly)
        return
    header = ["method", "ms per token", "layers", "head", "GB/s", "of the bandwidth", "kernels of the layers"]
    with torch.no_grad():
        print("\n".join(table(header, list(lines(chosen.names or NAMES, chosen.tokens)))))


if __name__ == "__main__":
    main()
