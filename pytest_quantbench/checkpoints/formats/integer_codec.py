"""Whole numbers with a scale and maybe a zero point for blocks of them: what decodes them, and how they can be run.

weight = (code − zero) × scale in float32, with codes and zeros from 0 to 2^bits − 1. Codes are a little-endian stream
of bits in 32-bit words, each row by itself. Where no zeros are stored, zero is 2^(bits − 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.formats.packed_words import words_of
from pytest_quantbench.quantizers import Array, Codec
from pytest_quantbench.quantizers.layer import Affine, Fixed, InputRule, Layer, PerToken
from pytest_quantbench.quantizers.numerics import affine, block_scales
from pytest_quantbench.quantizers.numerics.bit_packing import Codes, pack, unpack

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Integers(Codec):
    """Arrays: `codes` (out, words) uint32, `scales` (blocks, groups) in 16 or 32 bits; there may be `zeros` of the
    scales' shape, uint8, and `g_idx` (in,) int32, the group of each column where groups are not columns in their order.
    """

    bits: int
    block: tuple[int, int]  # rows and columns that share a scale
    in_features: int

    name: ClassVar[str] = "integers in blocks"

    def decode(self, arrays: Mapping[str, Array]) -> Matrix:
        """(out, in) float32."""
        codes, zeros = arrays["codes"], arrays.get("zeros")
        scales = arrays["scales"].astype(np.float32)
        middle = np.full(scales.shape, 2 ** (self.bits - 1), np.float32)
        return block_scales.multiplied(
            lambda rows: unpacked(codes[rows], self.bits, self.in_features).astype(np.float32),
            self.block[0],
            len(codes),
            arrays.get("g_idx", block_scales.columns_of(self.in_features, self.block[1])),
            scales,
            middle if zeros is None else zeros.astype(np.float32),
        )

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """An affine grid, where MLX has one of these bits and groups; groups that share a scale have it each."""
        group, height = self._group(), self.block[0]
        whole = arrays["codes"].shape[1] * 32 == self.in_features * self.bits
        if self.bits not in affine.BITS or group is None or "g_idx" in arrays or not whole:
            return None
        rows = np.arange(len(arrays["codes"])) // height
        columns = np.arange(0, self.in_features, group) // self.block[1]
        scales, biases = (part[rows][:, columns] for part in self._offsets(arrays))
        codes = arrays["codes"]
        return Layer(
            grid=Affine(codes=codes, scales=scales, biases=biases, bits=self.bits, in_features=self.in_features)
        )

    def _group(self) -> int | None:
        """The widest group of MLX's into which blocks can be divided; None where there is none."""
        wide = self.block[1]
        fitting = (group for group in reversed(affine.GROUPS) if self.in_features % group == 0 and wide % group == 0)
        return next(fitting, None)

    def _offsets(self, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
        """Scales, and biases: −zero × scale. In the scales' own type where that is exact."""
        scales, zeros = arrays["scales"], arrays.get("zeros")
        wide = scales.astype(np.float32)
        if zeros is not None:
            return wide, -zeros.astype(np.float32) * wide
        biases = np.float32(-(2 ** (self.bits - 1))) * wide
        with np.errstate(over="ignore"):  # float16 ends at 65,504
            narrow = biases.astype(scales.dtype)
        return (scales, narrow) if np.array_equal(narrow.astype(np.float32), biases) else (wide, biases)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuledIntegers(Integers):
    """The same behind quantized inputs: each token by its own largest value in `input_bits`, or all on one grid of 8
    bits, where there is `input_scale` (1,) and maybe `input_zero` (1,), in codes from −128 to 127.
    """

    input_bits: int

    name: ClassVar[str] = "integers in blocks, inputs too"
    has_input_rule: ClassVar[bool] = True

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The grid where there is one, behind the rule."""
        found = Integers.layer(self, arrays)
        return Layer(grid=None if found is None else found.grid, input_rule=self._rule(arrays))

    def _rule(self, arrays: Mapping[str, Array]) -> InputRule:
        if "input_scale" not in arrays:
            return PerToken(bits=self.input_bits)
        middle = 2 ** (self.input_bits - 1)
        zero = float(arrays["input_zero"].ravel()[0]) if "input_zero" in arrays else 0.0
        return Fixed(step=float(arrays["input_scale"].ravel()[0]), zero=zero + middle, bits=self.input_bits)


def loose_words_of(count: int, bits: int) -> int:
    """How many they fill where every code lies in one word."""
    return -(-count // (32 // bits))


def unpacked(words: NDArray[np.uint32], bits: int, count: int) -> Codes:
    """(rows, words) → (rows, count) codes from a little-endian stream of bits."""
    stored = np.ascontiguousarray(words).view(np.uint8)
    needed = -(-count // 8) * bits  # bytes of whole eights of codes
    stored = np.pad(stored[:, :needed], ((0, 0), (0, max(0, needed - stored.shape[1]))))
    return unpack(stored, bits)[:, :count]


def loose_codes(words: NDArray[np.uint32], bits: int, count: int) -> NDArray[np.uint8]:
    """(rows, words) → (rows, count) codes, as many in a word as are whole in it."""
    shifts = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
    codes = (words[:, :, None] >> shifts) & np.uint32(2**bits - 1)
    return codes.reshape(len(words), -1)[:, :count].astype(np.uint8)


def stream(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint32]:
    """(rows, count) codes → (rows, words): the inverse of `unpacked`."""
    needed = words_of(codes.shape[1], bits) * 4  # bytes
    packed = pack(np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8))), bits)
    packed = np.pad(packed[:, :needed], ((0, 0), (0, max(0, needed - packed.shape[1]))))
    return np.ascontiguousarray(packed).view(np.uint32)
