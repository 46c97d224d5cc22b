"""Round to nearest on MLX's affine grid: the plain method that every other one has to beat.

Source: the affine mode of `mlx.core.quantize` (MLX documentation). Each group of weights along a row gets a scale
and a bias from its smallest and largest value, and every weight becomes the nearest of 2^bits levels between them.
No data, one pass, O(out × in). Storage: bits + 32 / group per weight, because scale and bias are 16-bit each.

Where we differ: a float32 source is rounded to bfloat16 first, for MLX stores scales in the input's type and float32
scales would double the overhead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.numerics import affine


@dataclass(frozen=True, slots=True, kw_only=True)
class Rtn:
    """MLX affine rounding with `bits` per code and a scale and bias for every `group_size` weights of a row."""

    bits: int
    group_size: int = 64

    name: ClassVar[str] = "rtn"
    version: ClassVar[int] = 1
    calibration: ClassVar[Literal["none", "optional", "hessian"]] = "none"

    def __post_init__(self) -> None:
        affine.check(self.name, self.bits, self.group_size)

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, mx.array]) -> str:
        """What was done otherwise for an (out, in) matrix, such as padding; empty if nothing."""
        return affine.note(weight_shape[1], self.group_size, self.bits)

    def encode(self, weight: mx.array, statistics: Statistics | None, seed: int) -> dict[str, mx.array]:
        """(out, in) float → `weight` (out, in × bits / 32) uint32, `scales` and `biases` (out, in / group) 16-bit.

        A padded matrix also has `in_features` (1,) int32, the row length before padding.
        """
        in_features = weight.shape[1]
        group, padded = affine.fit(in_features, self.group_size, self.bits)
        if weight.dtype == mx.float32:
            weight = weight.astype(mx.bfloat16)
        if padded != in_features:
            weight = mx.pad(weight, [(0, 0), (0, padded - in_features)], mode="edge")
        codes, scales, biases = mx.quantize(weight, group_size=group, bits=self.bits)
        arrays = {"weight": codes, "scales": scales, "biases": biases}
        return arrays if padded == in_features else {**arrays, "in_features": mx.array([in_features], mx.int32)}

    def decode(self, arrays: dict[str, mx.array]) -> mx.array:
        """The dense (out, in) weight in float32."""
        return affine.decode(arrays, self.bits)

    def linear(self, arrays: dict[str, mx.array]) -> nn.Module:
        """MLX's own quantized layer."""
        return affine.linear(arrays, self.bits)

    def mlx_parameters(self, arrays: dict[str, mx.array]) -> dict[str, int | str] | None:
        """What MLX's config.json says of this matrix; None where rows were padded."""
        return affine.mlx_parameters(arrays, self.bits)
