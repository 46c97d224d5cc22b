"""Round to nearest on MLX's affine grid: the plain method that every other one has to beat.

Source: the affine mode of `mlx.core.quantize` (MLX documentation). Each group of weights along a row gets a scale
and a bias from its smallest and largest value, and every weight becomes the nearest of 2^bits levels between them.
No data, one pass, O(out × in). Storage: bits + 32 / group per weight, because scale and bias are 16-bit each.

Where we differ: a float32 source is rounded to bfloat16 first, for MLX stores scales in the input's type and float32
scales would double the overhead.
"""

from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from pytest_quantbench.quantizers.numerics import affine, affine_rounding
from pytest_quantbench.quantizers.numerics.affine import AffineStored
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Rtn(AffineStored):
    """MLX affine rounding with `bits` per code and a scale and bias for every `group_size` weights of a row."""

    name: ClassVar[str] = "rtn"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "none"

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `weight` (out, in × bits / 32) uint32, `scales` and `biases` (out, in / group) 16-bit.

        A padded matrix also has `in_features` (1,) int32, the row length before padding.
        """
        in_features = weight.shape[1]
        group, padded = affine.fit(in_features, self.group_size, self.bits)
        if weight.dtype == np.float32:
            weight = weight.astype(ml_dtypes.bfloat16)
        codes, scales, biases = affine_rounding.rounded(affine.pad(weight, padded), group, self.bits)
        return affine.store(codes, scales, biases, self.bits, in_features)
