"""Weights and activations in integers, the activations' ranges found at run time: W8A8 and W4A4.

Source: per-row weights and per-token activations as in LLM.int8() (Dettmers et al. 2022, §2.1, without its outlier
decomposition) and ZeroQuant (Yao et al. 2022, §4.1). Every row of the weight has one symmetric scale; every token's
input is rounded to symmetric integers by its own largest value. No data; the inputs' rounding is part of every measure.
Storage: bits + 32 / in per weight; the activations cost nothing on disk.

Where we differ: products run in float on the rounded values, which is what integer kernels compute exactly; T1 shows
no speed-up, since MLX has no integer product.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.layer import Layer, PerToken
from pytest_quantbench.quantizers.numerics import per_row
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic(Quantizer):
    """`bits` for weights (per row) and for activations (per token)."""

    bits: int

    name: ClassVar[str] = "dynamic"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "none"
    has_input_rule: ClassVar[bool] = True

    def __post_init__(self) -> None:
        per_row.check(self.name, self.bits)

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `codes` (out, in × bits / 8) uint8, `scales` (out,) float32, `in_features` (1,) int32."""
        return per_row.encode(weight, self.bits)

    def decode(self, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """The dense (out, in) weight in float32."""
        return per_row.decode(arrays, self.bits)

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The decoded matrix, and every token on the symmetric grid of its own largest value."""
        return Layer(input_rule=PerToken(bits=self.bits))
