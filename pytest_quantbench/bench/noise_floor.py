"""The noise floor: how far the reference is from itself under an arithmetic that should not matter.

Its activations are rounded to bfloat16 after every layer, as they are where models are deployed, and it is measured on
the same tokens and questions again. A criterion that is tighter than what this alone changes judges rounding noise and
not the quantizer, and is refused.
"""

from functools import cached_property

import numpy as np

from pytest_quantbench.bench.timing import Measured
from pytest_quantbench.catalog.criteria import Metric
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.record.schema import NoiseFloor
from pytest_quantbench.stats import series
from pytest_quantbench.stats.proportions import Flips, flips


class Floor:
    """Measured when first asked for, one check at a time."""

    def __init__(self, plain: Measured, rounded: Measured) -> None:
        self._plain = plain
        self.rounded = rounded

    @cached_property
    def perplexity_points(self) -> float | None:
        """The size of its perplexity delta on the tokens of a first look; None where a perplexity overflows."""
        rounded = self.rounded.perplexity_samples.nll_nats
        after, before = map(series.perplexity, (rounded, self._plain.perplexity_samples.nll_nats[: len(rounded)]))
        return None if after is None or before is None else abs(after - before)

    @property
    def _kl_nats(self) -> float | None:
        """The mean KL divergence of the rounded model from the plain one."""
        found = self.rounded.perplexity_samples.fidelity
        return None if found is None else float(found.kl_nats.mean(dtype=np.float64))

    @cached_property
    def _flips(self) -> Flips:
        """Of the judged task's questions."""
        name, rounded = next(iter(self.rounded.accuracy_samples.tasks.items()))
        plain = self._plain.accuracy_samples.tasks[name].first(len(rounded.ids))
        return flips(plain.correct, rounded.correct)

    @property
    def drop_points(self) -> float:
        """The size of its accuracy drop, in percentage points."""
        return abs(self._flips.value)

    @property
    def flipped_points(self) -> float:
        """The share of answers that flip either way, in percentage points."""
        return 100 * self._flips.rate

    def refuse_tighter(self, metric: Metric, limit: float) -> None:
        """Raise ComparisonError for a limit on perplexity or accuracy that noise alone goes beyond."""
        floors = {"perplexity": "perplexity_points", "accuracy": "drop_points"}
        if metric.check not in floors:
            return
        floor = getattr(self, floors[metric.check])
        if floor is not None and abs(limit) < floor:
            raise ComparisonError(
                f"The criterion {metric.label} < {limit:g} {metric.unit}".rstrip()
                + f" is tighter than the noise floor: with activations rounded to bfloat16 the reference differs from "
                f"itself by {floor:.3g} on these samples. Choose a limit above that in [tool.quantbench.criteria], or "
                f"measure more."
            )

    def figures(self) -> NoiseFloor:
        """What has been measured of it."""
        answered = "_flips" in self.__dict__
        return NoiseFloor(
            perplexity_points=self.__dict__.get("perplexity_points"),
            kl_nats=self._kl_nats if "perplexity_points" in self.__dict__ else None,
            drop_points=self.drop_points if answered else None,
            flipped_points=self.flipped_points if answered else None,
        )
