"""Eight-bit integers with one scale per output row: what everyone means by "INT8 weights".

Source: vector-wise absmax quantization (Dettmers et al. 2022, LLM.int8(), arXiv 2208.07339), weights only. A row's
largest magnitude becomes 127, every weight the nearest multiple of the scale. No data, one pass, O(out × in).
Storage: 8 + 16 / in bits per weight.

Where we differ: the scale is float16 and is rounded before codes are chosen, so codes fit the scale that decodes them.
A row whose scale float16 cannot hold with full precision (very small or very large weights) gets a power of two
beside it, 8 bits more per row; matrices without such rows store none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.quantizers import Statistics, check_width
from pytest_quantbench.quantizers.numerics import affine, float16_scales

LIMIT = 127  # −128 stays unused: the range is symmetric
ROWS = 256  # taken together, so that temporaries stay small


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8:
    """One float16 scale per output row, codes from −127 to 127."""

    bits: int = 8

    name: ClassVar[str] = "int8"
    version: ClassVar[int] = 1
    calibration: ClassVar[Literal["none", "optional", "hessian"]] = "none"

    def __post_init__(self) -> None:
        check_width(self.name, self.bits, 8)

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, mx.array]) -> str:
        """Nothing is done otherwise for any shape."""
        return ""

    def encode(self, weight: mx.array, statistics: Statistics | None, seed: int) -> dict[str, mx.array]:
        """(out, in) float → `codes` (out, in) int8 and `scales` (out, 1) float16.

        `exponents` (out, 1) int8 only where some scale needs a power of two beside it.
        """
        source = np.array(weight.astype(mx.float32))
        stored, exponents = float16_scales.split(np.abs(source).max(axis=1, keepdims=True) / np.float32(LIMIT))
        scales = float16_scales.join(stored, exponents)  # (out, 1), as they decode
        divisors = np.where(scales > 0, scales, np.float32(np.inf))  # without a scale every code is zero
        codes = np.empty(source.shape, np.int8)
        for start in range(0, len(source), ROWS):
            rows = slice(start, start + ROWS)
            codes[rows] = np.clip(np.rint(source[rows] / divisors[rows]), -LIMIT, LIMIT)
        arrays = {"codes": mx.array(codes), "scales": mx.array(stored)}
        return {**arrays, "exponents": mx.array(exponents)} if exponents.any() else arrays

    def decode(self, arrays: dict[str, mx.array]) -> mx.array:
        """The dense (out, in) weight in float32."""
        return arrays["codes"].astype(mx.float32) * _scales(arrays).astype(mx.float32)

    def linear(self, arrays: dict[str, mx.array]) -> nn.Module:
        """MLX's 8-bit affine layer: codes shifted up by 128, the row's scale repeated for each of its groups."""
        out_features, in_features = arrays["codes"].shape
        group, padded = affine.fit(in_features, affine.GROUPS[-1], 8)
        shifted = np.full((out_features, padded), 128, np.uint8)
        shifted[:, :in_features] = np.array(arrays["codes"]).view(np.uint8) ^ 128  # two's complement + 128
        scales = mx.repeat(_scales(arrays), padded // group, axis=1)
        stored = {"weight": mx.array(shifted.view(np.uint32)), "scales": scales, "biases": -128 * scales}
        return affine.linear({**stored, "in_features": mx.array([in_features])} if padded != in_features else stored, 8)


def _scales(arrays: dict[str, mx.array]) -> mx.array:
    """(out, 1): float16 as stored, or float32 where a power of two belongs to them."""
    if "exponents" not in arrays:
        return arrays["scales"]
    return mx.array(float16_scales.join(np.array(arrays["scales"]), np.array(arrays["exponents"])))
