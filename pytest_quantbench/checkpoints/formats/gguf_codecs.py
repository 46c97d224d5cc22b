"""What reads the blocks of GGUF's tensors: every type that the `gguf` package dequantizes.

Source: ggml (ggml-common.h, ggml-quants.c) and `gguf.quants`, whose arithmetic defines the values. A row is cut into
blocks of 32, 64 or 256 weights; a block is a few bytes with its scales and then its codes, so that any choice of rows
keeps blocks whole. K-quants are read as our own recipe's are (kquant_blocks), the others by the package, a few rows at
a time. Where we differ: a scale that is not finite is an error here (`is_finite`): one bad block spoils a whole model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers import Array, Codec
from pytest_quantbench.quantizers.layer import Affine, Layer, Microscaled
from pytest_quantbench.quantizers.numerics import affine, kquant_blocks
from pytest_quantbench.quantizers.numerics.bit_packing import pack
from pytest_quantbench.quantizers.numerics.microscaled_formats import FORMATS
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows

Bytes = NDArray[np.uint8]
Matrix = NDArray[np.float32]
Grid: TypeAlias = tuple[Bytes, Matrix, Matrix]  # codes (blocks, weights); scales and biases (blocks, groups)

PLAIN = ("F32", "F16", "BF16")  # numbers as they are, without blocks
KQUANT_BITS: Mapping[str, int] = {layout.name: bits for bits, layout in kquant_blocks.LAYOUTS.items()}
# Where the float16 numbers of a block stand that all others are multiplied with: their first bytes.
HALVES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"), (0,)),
        **dict.fromkeys(("IQ4_NL", "IQ4_XS"), (0,)),
        **dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), (0, 2)),
        "Q2_K": (80, 82),
        "Q3_K": (108,),
        "Q6_K": (208,),
        "TQ1_0": (52,),
        "TQ2_0": (64,),
        "IQ1_M": (),
        "MXFP4": (),
        "NVFP4": (),  # see is_finite
    }
)
MXFP4_LARGEST = 252  # 6 · 2^126 is no float32 any more
NVFP4_LARGEST = 0x7E  # above it are what E4M3 calls NaN, and signs, which ggml leaves out


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufBlocks(Codec):
    """Rows of blocks of one type: `blocks` (out, bytes of a row) uint8."""

    kind: str  # ggml's name of it: `Q4_K`
    name: ClassVar[str] = "gguf"

    def decode(self, arrays: Mapping[str, Array]) -> Matrix:
        """(out, in) float32, to the last bit as `gguf.dequantize` has it."""
        blocks = arrays["blocks"]
        block, size = block_of(self.kind)
        dense = np.empty((len(blocks), blocks.shape[1] // size * block), np.float32)

        def work(rows: slice) -> None:
            with np.errstate(over="ignore", invalid="ignore"):  # scales that are not finite were told when read
                dense[rows] = _decoded(blocks[rows], self.kind)

        over_rows(work, *dense.shape)
        return dense

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """An affine grid, in groups of 32 with float32 scales and biases, or a microscaled one. None for types that are
        neither, and for those in groups of 16, for which there are no affine kernels: they run decoded.
        """
        blocks = arrays["blocks"]
        single = blocks.reshape(-1, block_of(self.kind)[1])
        if self.kind in _GRIDS:
            bits, unpacked = _GRIDS[self.kind]
            return Layer(grid=_affine(len(blocks), bits, *unpacked(single)))
        grid = _mxfp4(len(blocks), single) if self.kind == "MXFP4" else None
        grid = _nvfp4(len(blocks), single) if self.kind == "NVFP4" else grid
        return None if grid is None else Layer(grid=grid)


def block_of(kind: str) -> tuple[int, int]:
    """How many weights a block of a type holds, and its bytes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return GGML_QUANT_SIZES[GGMLQuantizationType[kind]]


def is_finite(blocks: Bytes, kind: str) -> bool:
    """Whether all weights of (…, bytes of a row) blocks are numbers: whether their scales are.

    A float16 number is none where all five bits of its exponent are set.
    """
    single = blocks.reshape(-1, block_of(kind)[1])
    if kind == "IQ1_M":  # the four upper bits of each of four 16-bit numbers make the scale
        return not bool(((single[:, 55] & 0x70 == 0x70) & (single[:, 53] & 0xC0 == 0xC0)).any())
    if kind == "MXFP4":
        return bool(single[:, 0].max(initial=0) <= MXFP4_LARGEST)
    return not any(bool((single[:, place + 1] & 0x7C == 0x7C).any()) for place in HALVES[kind])


def _decoded(rows: Bytes, kind: str) -> Matrix:
    if kind in KQUANT_BITS:
        bits = KQUANT_BITS[kind]
        single = rows.reshape(-1, kquant_blocks.LAYOUTS[bits].size)
        return kquant_blocks.dequantize(single, bits).reshape(len(rows), -1)
    from gguf import GGMLQuantizationType, dequantize

    found: Matrix = dequantize(rows, GGMLQuantizationType[kind])
    return found


def _half(blocks: Bytes, place: int) -> Matrix:
    """(blocks, 1) float32 of the float16 at this byte."""
    return np.ascontiguousarray(blocks[:, place : place + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """(blocks, n) bytes → (blocks, 2 n) codes: all lower halves, then all upper ones."""
    return np.concatenate([packed & np.uint8(15), packed >> np.uint8(4)], axis=1)


def _fifth(packed: Bytes) -> Bytes:
    """(blocks, 4) bytes → (blocks, 32): the fifth bits of as many codes, in their place."""
    return np.unpackbits(packed, axis=1, bitorder="little") << np.uint8(4)


def _q4_0(blocks: Bytes) -> Grid:
    scales = _half(blocks, 0)
    return _nibbles(blocks[:, 2:]), scales, -8 * scales


def _q4_1(blocks: Bytes) -> Grid:
    return _nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Grid:
    scales = _half(blocks, 0)
    return _nibbles(blocks[:, 6:]) | _fifth(blocks[:, 2:6]), scales, -16 * scales


def _q5_1(blocks: Bytes) -> Grid:
    return _nibbles(blocks[:, 8:]) | _fifth(blocks[:, 4:8]), _half(blocks, 0), _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Grid:
    scales = _half(blocks, 0)
    return blocks[:, 2:] ^ np.uint8(128), scales, -128 * scales  # two's complement + 128


def _kquant(bits: int) -> Callable[[Bytes], Grid]:
    def grid(blocks: Bytes) -> Grid:
        unpacked = kquant_blocks.unpack(blocks, bits)
        scales, minimums = kquant_blocks.multipliers(unpacked)
        return unpacked.codes, scales, -minimums

    return grid


# Types that are code × scale + bias in groups of 32. Products of a code and its scale have at most 22 bits, and so
# float32 holds them exactly: the grids give the very numbers that `decode` gives.
_GRIDS: Mapping[str, tuple[int, Callable[[Bytes], Grid]]] = MappingProxyType(
    {
        "Q4_0": (4, _q4_0),
        "Q4_1": (4, _q4_1),
        "Q5_0": (5, _q5_0),
        "Q5_1": (5, _q5_1),
        "Q8_0": (8, _q8_0),
        "Q4_K": (4, _kquant(4)),
        "Q5_K": (5, _kquant(5)),
    }
)


def _affine(rows: int, bits: int, codes: Bytes, scales: Matrix, biases: Matrix) -> Affine:
    wide = codes.reshape(rows, -1)
    stored = affine.store(wide, scales.reshape(rows, -1), biases.reshape(rows, -1), bits, wide.shape[1])
    return affine.grid(stored, bits)


def _mxfp4(rows: int, blocks: Bytes) -> Microscaled:
    """A byte with the group's power of two, and 32 codes of E2M1."""
    codes = _nibbles(blocks[:, 1:]).reshape(rows, -1)
    scales = blocks[:, 0].reshape(rows, -1)
    form = FORMATS["mxfp4"]
    return Microscaled(codes=pack(codes, 4).view(np.uint32), scales=scales, form=form, in_features=codes.shape[1])


def _nvfp4(rows: int, blocks: Bytes) -> Microscaled | None:
    """Four E4M3 scales and four groups of 16 codes; None for scales that ggml and E4M3 read differently."""
    if blocks[:, :4].max(initial=0) > NVFP4_LARGEST:
        return None
    codes = _nibbles(np.ascontiguousarray(blocks[:, 4:]).reshape(-1, 8)).reshape(rows, -1)
    scales = np.ascontiguousarray(blocks[:, :4]).reshape(rows, -1)
    form = FORMATS["nvfp4"]
    return Microscaled(codes=pack(codes, 4).view(np.uint32), scales=scales, form=form, in_features=codes.shape[1])
