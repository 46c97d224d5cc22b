"""The number formats of microscaling, encoded and decoded: to the last bit as MLX on a CPU does it.

Source: OCP Microscaling Formats (MX) specification 1.0, §5, for E2M1 (4 bits: 0, ½, 1, 1½, 2, 3, 4, 6 and their
negatives), E4M3 (8 bits: up to 448, down to 2^-9) and E8M0 (a power of two, 8 bits); `mlx.core.quantize` for what the
specification leaves open:

- An E8M0 scale is the smallest power of two that is not below the group's largest magnitude over the largest number of
  the elements' format, so that no element is cut off; that of a group of zeros is 1. An E4M3 scale is the nearest.
- An element halfway between two numbers of E2M1 becomes the smaller one, and what becomes zero loses its sign; halfway
  between two of E4M3 it becomes the one with an even code. Elements beyond the largest number become it.
- Where an E4M3 scale is rounded to zero, all elements are zero.

(MLX's Metal kernels take the even code for E2M1 too, and keep the sign of a zero.)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.numerics.bit_packing import pack, unpack
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows

Matrix = NDArray[np.float32]
Bytes = NDArray[np.uint8]

E2M1 = np.array([sign * size for sign in (1, -1) for size in (0.0, 0.5, 1, 1.5, 2, 3, 4, 6)], np.float32)  # by code
HALFWAY = (E2M1[:7] + E2M1[1:8]) / 2  # between neighbours
E2M1_LARGEST, E4M3_LARGEST = np.float32(6), np.float32(448)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How the groups of a matrix are written: `bits` of an element (4: E2M1, 8: E4M3), `group` of them to a scale."""

    name: str  # as MLX calls it
    bits: int
    group: int
    powers_of_two: bool  # scales are E8M0, not E4M3

    @property
    def largest(self) -> np.float32:
        """The largest number that an element can be."""
        return E4M3_LARGEST if self.bits == 8 else E2M1_LARGEST


FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (
        Format(name="mxfp4", bits=4, group=32, powers_of_two=True),
        Format(name="mxfp8", bits=8, group=32, powers_of_two=True),
        Format(name="nvfp4", bits=4, group=16, powers_of_two=False),
    )
}


def e2m1_codes(values: Matrix) -> Bytes:
    """The nearest codes, 0 to 15, of the same shape."""
    sizes, codes = np.abs(values), np.zeros(values.shape, np.uint8)
    for bound in HALFWAY:
        codes += sizes > bound
    codes += ((values < 0) & (codes > 0)).astype(np.uint8) << np.uint8(3)
    return codes


def _e4m3_table() -> Bytes:
    """The codes of all float32 numbers that have nothing in their lower 16 bits, by the upper 16."""
    numbers = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    finite = np.clip(np.nan_to_num(numbers), -E4M3_LARGEST, E4M3_LARGEST)
    codes: Bytes = finite.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    return codes


_E4M3_CODES = _e4m3_table()


def e4m3_codes(values: Matrix) -> Bytes:
    """The nearest codes, 0 to 255, of the same shape.

    Eight bits of a fraction and whether there is more decide how it is rounded to four, so a table is enough.
    """
    bits = values.view(np.uint32)
    places = bits >> np.uint32(16)
    places |= (bits & np.uint32(0xFFFF)) != 0
    codes: Bytes = _E4M3_CODES[places]
    return codes


def e4m3_values(codes: Bytes) -> Matrix:
    """What E4M3 codes stand for."""
    values: Matrix = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    return values


def e8m0_codes(sizes: Matrix) -> Bytes:
    """The smallest powers of two not below these sizes, from 2^-127 to 2^127, as exponent + 127; 127 for zero."""
    fractions, exponents = np.frexp(sizes)  # fraction ≥ ½
    exponents -= fractions == 0.5
    return np.where(sizes > 0, exponents + 127, 127).astype(np.uint8)


def e8m0_values(codes: Bytes) -> Matrix:
    """What E8M0 codes stand for. 255, NaN in the specification, is never written."""
    return np.ldexp(np.float32(1), codes.astype(np.int32) - 127)


def scale_values(codes: Bytes, form: Format) -> Matrix:
    """What scales of a format stand for."""
    return e8m0_values(codes) if form.powers_of_two else e4m3_values(codes)


def rounded(weight: Matrix, form: Format) -> tuple[NDArray[np.uint32], Bytes]:
    """(out, in) → packed codes (out, in × bits / 32) and scales (out, in / group). Rows are of whole groups of 32.

    E8M0 takes magnitudes from 2^-110 to 2^127, and zero.
    """
    outs, ins = weight.shape
    packed = np.empty((outs, ins * form.bits // 8), np.uint8)
    scales = np.empty((outs, ins // form.group), np.uint8)

    def work(rows: slice) -> None:
        groups = weight[rows].reshape(-1, ins // form.group, form.group)
        sizes = np.abs(groups).max(2) / form.largest
        scales[rows] = e8m0_codes(sizes) if form.powers_of_two else e4m3_codes(sizes)
        units = scale_values(scales[rows], form)
        units[units == 0] = np.inf
        elements = (groups / units[:, :, None]).reshape(-1, ins)
        packed[rows] = e4m3_codes(elements) if form.bits == 8 else pack(e2m1_codes(elements), 4)

    over_rows(work, outs, ins)
    return packed.view(np.uint32), scales


def decoded(packed: NDArray[np.uint32], scales: Bytes, form: Format) -> Matrix:
    """The dense (out, in) float32 weight: elements times the scales of their groups."""
    stored = packed.view(np.uint8)
    outs, ins = len(packed), stored.shape[1] * 8 // form.bits
    dense = np.empty((outs, ins), np.float32)

    def work(rows: slice) -> None:
        elements = e4m3_values(stored[rows]) if form.bits == 8 else E2M1[unpack(stored[rows], 4)]
        groups = dense[rows].reshape(-1, scales.shape[1], form.group)
        with np.errstate(over="ignore", invalid="ignore"):  # what no encoder writes, such as 2^127 as a scale
            np.multiply(elements.reshape(groups.shape), scale_values(scales[rows], form)[:, :, None], out=groups)

    over_rows(work, outs, ins)
    return dense
