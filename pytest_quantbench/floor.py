"""The noise floor: how far the reference is from itself under an arithmetic that should not matter.

Its activations are rounded to bfloat16 after every layer, as they are where models are deployed, and it is measured on
the same tokens and questions again. A criterion that is tighter than what this alone changes judges rounding noise and
not the quantizer, and is refused.
"""

from functools import cached_property

import numpy as np

from pytest_quantbench import stats
from pytest_quantbench.catalog import Metric
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.measured import Measured
from pytest_quantbench.proportions import flips
from pytest_quantbench.record import NoiseFloor


class Floor:
    """Measured when first asked for, one check at a time."""

    def __init__(self, plain: Measured, rounded: Measured) -> None:
        self._plain = plain
        self._rounded = rounded

    @cached_property
    def perplexity_points(self) -> float:
        """The farther end of the interval of the perplexity delta."""
        rounded = self._rounded.perplexity_samples.nll_nats
        plain = self._plain.perplexity_samples.nll_nats[: len(rounded)]
        estimate, _ = stats.perplexity_delta(plain, rounded)
        if estimate is None:
            return 0.0
        ends = estimate.interval()
        return max(abs(ends.low), abs(ends.high))

    @cached_property
    def flipped_points(self) -> float:
        """The share of the judged task's questions whose answer flips, in percentage points."""
        name, rounded = next(iter(self._rounded.accuracy_samples.tasks.items()))
        plain = self._plain.accuracy_samples.tasks[name].first(len(rounded.ids))
        return 100 * flips(plain.correct, rounded.correct).rate

    def refuse_tighter(self, metric: Metric, limit: float) -> None:
        """Raise ComparisonError for a limit on perplexity or accuracy that noise alone could reach."""
        floors = {"perplexity": "perplexity_points", "accuracy": "flipped_points"}
        if metric.check not in floors:
            return
        floor = getattr(self, floors[metric.check])
        if np.abs(limit) <= floor:
            raise ComparisonError(
                f"The criterion {metric.label} < {limit:g} {metric.unit}".rstrip()
                + f" is tighter than the noise floor: with activations rounded to bfloat16 the reference differs from "
                f"itself by {floor:.3g}. Choose a limit above that in [tool.quantbench.criteria], or measure more."
            )

    def figures(self) -> NoiseFloor:
        """What has been measured of it."""
        return NoiseFloor(**{name: self.__dict__.get(name) for name in ("perplexity_points", "flipped_points")})
