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
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.layer import Affine, Layer
from pytest_quantbench.quantizers.numerics import affine
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics, check_width

LIMIT = 127  # −128 stays unused: the range is symmetric


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8(Quantizer):
    """One float16 scale per output row, codes from −127 to 127."""

    bits: int = 8

    name: ClassVar[str] = "int8"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "none"

    def __post_init__(self) -> None:
        check_width(self.name, self.bits, 8)

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `codes` (out, in) int8 and `scales` (out, 1) float16.

        `exponents` (out, 1) int8 only where some scale needs a power of two beside it.
        """
        source = weight.astype(np.float32)
        stored, exponents = affine.halved_scales(np.abs(source).max(axis=1, keepdims=True) / np.float32(LIMIT))
        scales = affine.whole_scales(stored, exponents)  # (out, 1), as they decode
        divisors = np.where(scales > 0, scales, np.float32(np.inf))  # without a scale every code is zero
        codes = np.empty(source.shape, np.int8)

        def work(rows: slice) -> None:
            codes[rows] = np.clip(np.rint(source[rows] / divisors[rows]), -LIMIT, LIMIT)

        over_rows(work, *source.shape)
        arrays: Arrays = {"codes": codes, "scales": stored}
        return {**arrays, "exponents": exponents} if exponents.any() else arrays

    def decode(self, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """The dense (out, in) weight in float32."""
        dense = arrays["codes"].astype(np.float32)
        dense *= _scales(arrays).astype(np.float32)
        return dense

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """An 8-bit affine grid: codes shifted up by 128, the row's scale repeated for each of its groups."""
        in_features = arrays["codes"].shape[1]
        group, padded = affine.fit(in_features, affine.GROUPS[-1], 8)
        shifted = arrays["codes"].view(np.uint8) ^ np.uint8(128)  # two's complement + 128
        if padded != in_features:
            shifted = np.pad(shifted, ((0, 0), (0, padded - in_features)), constant_values=128)
        scales = np.repeat(_scales(arrays), padded // group, axis=1)
        grid = Affine(
            codes=shifted.view(np.uint32), scales=scales, biases=-128 * scales, bits=8, in_features=in_features
        )
        return Layer(grid=grid)


def _scales(arrays: Mapping[str, Array]) -> Array:
    """(out, 1): float16 as stored, or float32 where a power of two belongs to them."""
    if "exponents" not in arrays:
        return arrays["scales"]
    return affine.whole_scales(arrays["scales"], arrays["exponents"])
