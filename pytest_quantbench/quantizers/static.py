"""Weights and activations in integers, the activations' range fixed beforehand from calibration inputs.

Source: post-training static quantization (Jacob et al. 2018, §2.1 for the asymmetric grid; Nagel et al. 2021, §3.1 for
the choice of the range). One scale and zero point serve all inputs of a matrix, so a few channels with large values
leave few levels for the rest: the reason why per-token ranges exist. Three rules set the range: `minmax` keeps every
calibration input, `percentile` cuts 0.1 % at either end, `mse` moves either end to where the squared error of the
inputs is smallest. Storage: bits + 32 / in per weight and two numbers for the inputs.

Where we differ: percentiles and squared errors are those of a sample of at most 1,024 tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Fixed, Layer
from pytest_quantbench.quantizers.numerics import per_row
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics

RANGES = ("minmax", "percentile", "mse")
CUT_PERCENT = 0.1
SHRINKS = np.geomspace(1.0, 0.05, 40)  # tried for either end, one after the other
ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Static(Quantizer):
    """`bits` for weights (per row) and for activations (one range per matrix, by the rule `range`)."""

    bits: int
    range: str = "mse"

    name: ClassVar[str] = "static"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "hessian"
    has_input_rule: ClassVar[bool] = True

    def __post_init__(self) -> None:
        per_row.check(self.name, self.bits)
        if self.range not in RANGES:
            raise QuantbenchError(f"static cannot have range = {self.range!r}; choose from {RANGES}.")

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → the arrays of `per_row.encode` and `input_range` (2,) float32: the grid's step and zero.

        Raises QuantbenchError without statistics.
        """
        if statistics is None:
            raise QuantbenchError("static needs calibration: give a text with --calibration FILE, or use dynamic.")
        low, high = self._range(statistics)
        step = max((high - low) / (2**self.bits - 1), 1e-30)
        grid = np.array([step, np.rint(-low / step)], np.float32)
        return {**per_row.encode(weight, self.bits), "input_range": grid}

    def _range(self, statistics: Statistics) -> tuple[float, float]:
        """The lowest and the highest value that inputs may have; always around zero."""
        sample, peaks = statistics.sample.ravel(), statistics.peaks
        if self.range == "percentile":
            low, high = np.percentile(sample, [CUT_PERCENT, 100 - CUT_PERCENT])
            return min(float(low), 0.0), max(float(high), 0.0)
        low = min(float(sample.min()), float(peaks.min()), 0.0)
        high = max(float(sample.max()), float(peaks.max()), 0.0)
        for _ in range(ROUNDS if self.range == "mse" else 0):
            high = min(high * SHRINKS, key=lambda end: _squared_error(sample, low, float(end), self.bits))
            low = min(low * SHRINKS, key=lambda end: _squared_error(sample, float(end), high, self.bits))
        return float(low), float(high)

    def decode(self, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """The dense (out, in) weight in float32."""
        return per_row.decode(arrays, self.bits)

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The decoded matrix, and every input on the matrix's grid, cut off at its ends."""
        step, zero = arrays["input_range"].tolist()
        return Layer(input_rule=Fixed(step=step, zero=zero, bits=self.bits))


def _squared_error(inputs: NDArray[np.float32], low: float, high: float, bits: int) -> float:
    step = max((high - low) / (2**bits - 1), 1e-30)
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(inputs / step) + zero, 0, 2**bits - 1)
    return float(np.square((codes - zero) * step - inputs, dtype=np.float64).sum())
