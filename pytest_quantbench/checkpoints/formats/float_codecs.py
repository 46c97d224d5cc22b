"""Numbers of eight, six and four bits with a scale for blocks of them: what decodes them, and how they can be run.

Elements are E4M3 (8 bits, up to 448), E2M3 (6 bits, up to 7.5) or E2M1 (4 bits, up to 6) of the OCP Microscaling
Formats specification 1.0, §5.3; packed ones are a little-endian stream of bits. weight = element × scale, in float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers import Array, Codec
from pytest_quantbench.quantizers.layer import Layer, Microscaled
from pytest_quantbench.quantizers.numerics import block_scales
from pytest_quantbench.quantizers.numerics.bit_packing import unpack
from pytest_quantbench.quantizers.numerics.microscaled_formats import E2M1, FORMATS, e4m3_values, e8m0_values

Matrix = NDArray[np.float32]
# By code: a sign bit, two of exponent, three of fraction; the first eight are below 1.
_SIZES = [eighths / 8 for eighths in range(8)] + [(1 + part / 8) * 2**power for power in range(3) for part in range(8)]
E2M3 = np.array([sign * size for sign in (1, -1) for size in _SIZES], np.float32)
MX_GROUP, NV_GROUP = 32, 16
MX_FORMS = {4: "mxfp4", 8: "mxfp8"}  # those that MLX has


@dataclass(frozen=True, slots=True, kw_only=True)
class Float8(Codec):
    """E4M3 with scales in 16 or 32 bits. Arrays: `codes` (out, in) uint8, `scales` (blocks, groups)."""

    block: tuple[int, int]  # rows and columns that share a scale
    in_features: int

    name: ClassVar[str] = "float8 in blocks"

    def decode(self, arrays: Mapping[str, Array]) -> Matrix:
        """(out, in) float32."""
        codes = arrays["codes"]
        columns = block_scales.columns_of(self.in_features, self.block[1])
        scales = arrays["scales"].astype(np.float32)
        return block_scales.multiplied(
            lambda rows: e4m3_values(codes[rows]), self.block[0], len(codes), columns, scales, None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MxFloats(Codec):
    """Elements of 4, 6 or 8 bits, a power of two for every 32 along a row.

    Arrays: `codes` (out, in × bits / 8) uint8, `scales` (out, in / 32) uint8, E8M0.
    """

    bits: int
    in_features: int

    name: ClassVar[str] = "microscaled floats"

    def decode(self, arrays: Mapping[str, Array]) -> Matrix:
        """(out, in) float32."""
        codes = arrays["codes"]
        columns = block_scales.columns_of(self.in_features, MX_GROUP)
        scales = e8m0_values(arrays["scales"])
        return block_scales.multiplied(
            lambda rows: elements(codes[rows], self.bits), 1, len(codes), columns, scales, None
        )

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """MLX's own form, where it has one of these bits."""
        return mx_layer(arrays, MX_FORMS.get(self.bits), self.in_features)


@dataclass(frozen=True, slots=True, kw_only=True)
class NvFloat4(Codec):
    """E2M1 with an E4M3 scale for every 16 along a row, which `global_scale` divides: NVIDIA's NVFP4.

    Arrays: `codes` (out, in / 2) uint8, `scales` (out, in / 16) uint8, `global_scale` (1,) float32.
    """

    in_features: int

    name: ClassVar[str] = "nvfp4"

    def decode(self, arrays: Mapping[str, Array]) -> Matrix:
        """(out, in) float32: the scale is divided first, as the maker of these files does it."""
        columns = block_scales.columns_of(self.in_features, NV_GROUP)
        with np.errstate(over="ignore"):  # what is not finite is seen, and told, by those who ask
            scales = e4m3_values(arrays["scales"]) / arrays["global_scale"].astype(np.float32).reshape(1, 1)
        return grouped(arrays["codes"], 4, columns, scales)

    def layer(self, arrays: Mapping[str, Array]) -> Layer | None:
        """MLX's own form, with one number for all outputs."""
        found = mx_layer(arrays, "nvfp4", self.in_features)
        if found is None:
            return None
        return Layer(grid=found.grid, scale=np.float32(1) / arrays["global_scale"].astype(np.float32).reshape(1))


def grouped(codes: NDArray[np.uint8], bits: int, columns: block_scales.Places, scales: Matrix) -> Matrix:
    """Elements times the scales of their groups."""
    return block_scales.multiplied(lambda rows: elements(codes[rows], bits), 1, len(codes), columns, scales, None)


def elements(codes: NDArray[np.uint8], bits: int) -> Matrix:
    """(rows, bytes) → (rows, bytes × 8 / bits) numbers."""
    if bits == 8:
        return e4m3_values(np.ascontiguousarray(codes))
    table = E2M3 if bits == 6 else E2M1
    found: Matrix = table[unpack(np.ascontiguousarray(codes), bits)]
    return found


def mx_layer(arrays: Mapping[str, Array], form: str | None, in_features: int) -> Layer | None:
    """The layer of a microscaled matrix; None where MLX has no such form, or no kernel: it takes 32 at a time."""
    codes = arrays["codes"]
    if form is None or in_features % (32 if len(codes) % 2 else FORMATS[form].group):
        return None
    words = np.ascontiguousarray(codes).view(np.uint32)
    return Layer(grid=Microscaled(codes=words, scales=arrays["scales"], form=FORMATS[form], in_features=in_features))
