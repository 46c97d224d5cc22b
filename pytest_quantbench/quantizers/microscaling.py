"""MLX's floating-point formats: 4 or 8 bits per weight, and an 8-bit scale for every 32 or 16 of them.

Source: OCP Microscaling Formats (MX) specification 1.0 for mxfp4 (E2M1) and mxfp8 (E4M3), both with a power of two
(E8M0) for every 32 weights; NVIDIA's NVFP4 for E2M1 with an E4M3 scale for every 16. Rounding is that of
`mlx.core.quantize` (see `numerics.microscaled_formats`): round to nearest, no data, one pass. These modes are what
hardware multiplies directly. Floating-point levels lie denser near zero, which suits heavy tails: nvfp4 is a dB above
4-bit rounding in groups of 64 on Student-t weights, and mxfp4, whose scale can only be a power of two, a dB below.

Storage: 4.25 (mxfp4), 8.25 (mxfp8) and 4.5 (nvfp4) bits per weight. An E4M3 scale reaches only from 2^-9 to 448, and
the weights of a language model lie below: unscaled nvfp4 rounds weights of 0.001 to zero. So nvfp4 has one float32
scale more per matrix, its largest weight over the largest number of the format, 6 × 448; that makes the result the
same for every unit of the weights. MLX's matrix product does not take that number, so the layer multiplies by it.

Where we differ: rows that no group divides are padded with zeros, which is stored and counted. MLX opens the mx formats
as they are; nvfp4 with its scale it does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.layer import Layer, Microscaled, row_length
from pytest_quantbench.quantizers.numerics import microscaled_formats
from pytest_quantbench.quantizers.numerics.microscaled_formats import FORMATS, Format
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics, check_width

# The powers of two of E8M0 reach further, but MLX's own rounding does not. What lies outside saturates.
SMALLEST, LARGEST = np.float32(2.0**-110), np.float32(2.0**127)
Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Microscaled(Quantizer):
    """What the formats have in common; `width` bits are a code's only choice."""

    bits: int

    name: ClassVar[Literal["mxfp4", "mxfp8", "nvfp4"]]
    width: ClassVar[int]
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "none"

    def __post_init__(self) -> None:
        check_width(self.name, self.bits, self.width)

    @property
    def _form(self) -> Format:
        return FORMATS[self.name]

    def _padding(self, weight_shape: tuple[int, ...]) -> int:
        """How much longer rows must be: whole groups, and a matrix of whole pairs of 16, for MLX takes 32 at a time."""
        return -weight_shape[1] % (32 if weight_shape[0] % 2 else self._form.group)

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise for an (out, in) matrix, such as padding; empty if nothing."""
        padding = self._padding(weight_shape)
        return f"rows padded from {weight_shape[1]} to {weight_shape[1] + padding}" if padding else ""

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `weight` (out, in × bits / 32) uint32 and `scales` (out, in / group) uint8.

        nvfp4 has `global_scale` (1,) float32; a padded matrix has `in_features` (1,) int32, its row length before.
        """
        dense = np.clip(weight.astype(np.float32), -LARGEST, LARGEST)
        dense[np.abs(dense) < SMALLEST] = 0
        beside: Arrays = {}
        if padding := self._padding(weight.shape):
            dense = np.pad(dense, ((0, 0), (0, padding)))
            beside["in_features"] = np.array([weight.shape[1]], np.int32)
        if self.name == "nvfp4":
            beside["global_scale"] = _global_scale(dense)
            dense /= beside["global_scale"]
        codes, scales = microscaled_formats.rounded(dense, self._form)
        return {"weight": codes, "scales": scales, **beside}

    def decode(self, arrays: Mapping[str, Array]) -> Matrix:
        """The dense (out, in) weight in float32."""
        dense = microscaled_formats.decoded(arrays["weight"], arrays["scales"], self._form)
        if "global_scale" in arrays:
            dense *= arrays["global_scale"]
        return dense[:, : row_length(arrays, dense.shape[1])]

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The grid, and the number by which the matrix was scaled. MLX's own kernels take the grid."""
        stored = arrays["weight"].shape[1] * 32 // self.width
        grid = Microscaled(
            codes=arrays["weight"],
            scales=arrays["scales"],
            form=self._form,
            in_features=row_length(arrays, stored),
        )
        return Layer(grid=grid, scale=arrays.get("global_scale"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mxfp4(_Microscaled):
    """E2M1 codes, a power of two for every 32."""

    bits: int = 4

    name = "mxfp4"
    width = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Mxfp8(_Microscaled):
    """E4M3 codes, a power of two for every 32."""

    bits: int = 8

    name = "mxfp8"
    width = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvfp4(_Microscaled):
    """E2M1 codes, an E4M3 scale for every 16, a float32 scale for the matrix."""

    bits: int = 4

    name = "nvfp4"
    width = 4


def _global_scale(dense: Matrix) -> Matrix:
    """(1,) float32: by it the largest weight is divided to the largest number of E2M1 times E4M3; 1 without weights."""
    largest = np.abs(dense).max(keepdims=True).reshape(1)
    return np.where(largest > 0, largest / np.float32(6 * 448), np.float32(1))
