"""Weights and activations in integers, the activations' ranges found at run time: W8A8 and W4A4.

Source: per-row weights and per-token activations as in LLM.int8() (Dettmers et al. 2022, §2.1, without its outlier
decomposition) and ZeroQuant (Yao et al. 2022, §4.1). Every row of the weight has one symmetric scale; every token's
input is rounded to symmetric integers by its own largest value. No data; the inputs' rounding is part of every measure.
Storage: bits + 32 / in per weight; the activations cost nothing on disk.

Where we differ: products run in float on the rounded values, which is what integer kernels compute exactly; T1 shows
no speed-up, since MLX has no integer product.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.quantizers import InputRule, Statistics
from pytest_quantbench.quantizers.numerics import per_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """`bits` for weights (per row) and for activations (per token)."""

    bits: int

    name: ClassVar[str] = "dynamic"
    version: ClassVar[int] = 1
    calibration: ClassVar[Literal["none", "optional", "hessian"]] = "none"

    def __post_init__(self) -> None:
        per_row.check(self.name, self.bits)

    def encode(self, weight: mx.array, statistics: Statistics | None, seed: int) -> dict[str, mx.array]:
        """(out, in) float → `codes` (out, in × bits / 8) uint8, `scales` (out,) float32, `in_features` (1,) int32."""
        return per_row.encode(weight, self.bits)

    def decode(self, arrays: dict[str, mx.array]) -> mx.array:
        """The dense (out, in) weight in float32."""
        return per_row.decode(arrays, self.bits)

    def inputs(self, arrays: dict[str, mx.array]) -> InputRule:
        """Every token on the symmetric grid of its own largest value."""
        top = 2 ** (self.bits - 1) - 1

        def rule(x: mx.array) -> mx.array:
            scale = mx.maximum(mx.abs(x).max(axis=-1, keepdims=True) / top, 1e-30)
            return mx.round(x / scale) * scale

        return rule

    def linear(self, arrays: dict[str, mx.array]) -> nn.Module:
        """The decoded weight, with inputs rounded as in every other measure."""
        return per_row.RuledLinear(self.decode(arrays), self.inputs(arrays))
