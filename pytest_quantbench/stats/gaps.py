"""The gaps between tokens of many runs: mean, spread, ends, and how many times a reference's their percentiles are.

A percentile of all gaps of all runs is held against the same of the reference's. Gaps of a run are slow and fast
together, and so are a run and the reference's that stood beside it. So runs are drawn again with replacement, the
reference's with them (the paired bootstrap; Davison and Hinkley 1997, section 3.8), and the spread of the logarithm of
the quotient over the draws is its standard error; Student's t allows for how few runs there are, and `rounds` for
neighbours that are alike. Draws are seeded: the same gaps give the same interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.stats.estimates import ALPHA
from pytest_quantbench.stats.percentiles import Percentile
from pytest_quantbench.stats.rounds import widening

GAP_PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)
DRAWS = 400
FEWEST_BEYOND = 10  # gaps above a percentile, below which drawing again says nothing of it
FEWEST_RUNS = 3
FARTHEST = 700.0  # that the end of an interval is from its logarithm: exp of more overflows
LEAST_SECONDS = 1e-12  # of a gap, for its logarithm
Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What is told of many times, in their unit. `deviation` is null of a single one."""

    mean: float
    deviation: float | None
    least: float
    most: float
    count: int


def spread(runs: Sequence[Floats]) -> Spread | None:
    """Of all values of some runs; None where there are none."""
    values = _joined(runs)
    if not len(values):
        return None
    return Spread(
        mean=float(values.mean()),
        deviation=float(values.std(ddof=1)) if len(values) > 1 else None,
        least=float(values.min()),
        most=float(values.max()),
        count=len(values),
    )


def gap_ratios(
    own: Sequence[Floats],
    reference: Sequence[Floats],
    *,
    paired: bool,
    percents: Sequence[float] = GAP_PERCENTS,
    seed: int = 0,
    alpha: float = ALPHA,
) -> dict[str, Percentile]:
    """How many times the reference's the percentiles of the gaps are, by the percent as text (`99.9`), and their mean
    (`mean`). Below 1 is faster.

    `own` and `reference` have an array of gaps for each run, in the order of time; `paired`: run i of both stood beside
    each other. An end is null where it is not known: with fewer than three runs of either, and where fewer than ten
    gaps lie beyond the percentile. Empty where either has no gaps, or gaps of no time.
    """
    if not len(_joined(own)) or not len(_joined(reference)):
        return {}
    draws = _Draws(own, reference, seed, paired=paired and len(own) == len(reference))
    wanted = {f"{percent:g}": percent for percent in percents} | {"mean": None}
    found = {name: draws.ratio(percent, alpha) for name, percent in wanted.items()}
    return {name: ratio for name, ratio in found.items() if ratio is not None}


class _Draws:
    """Runs of both, drawn again and again: how often each was drawn, (draws, runs)."""

    def __init__(self, own: Sequence[Floats], reference: Sequence[Floats], seed: int, *, paired: bool) -> None:
        self._both = [_Side(own), _Side(reference)]
        rng = np.random.default_rng(seed)
        counts = [rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), DRAWS) for runs in (own, reference)]
        self._counts = [counts[0], counts[0] if paired else counts[1]]
        self._paired = paired

    def ratio(self, percent: float | None, alpha: float) -> Percentile | None:
        """Of one percentile, or of the mean; None where one of both is no time at all."""
        values = [side.value(percent) for side in self._both]
        if min(values) <= 0:
            return None
        estimate = values[0] / values[1]
        half = self._half(percent, alpha)
        return Percentile(
            estimate=estimate,
            low=None if half is None else estimate * math.exp(-half),
            high=None if half is None else estimate * math.exp(half),
            confidence=1 - 2 * alpha,
        )

    def _half(self, percent: float | None, alpha: float) -> float | None:
        """Half of the interval of the logarithm; None where nothing is known of it."""
        if any(not side.tells(percent) for side in self._both):
            return None
        drawn = [side.drawn(percent, counts) for side, counts in zip(self._both, self._counts, strict=True)]
        if min(each.min() for each in drawn) <= 0:
            return None
        logarithms = np.log(drawn[0]) - np.log(drawn[1])
        runs = min(len(side) for side in self._both)
        error = float(logarithms.std()) * math.sqrt(runs / (runs - 1))  # drawing again shows the spread of n, not n − 1
        return min(self._widening(percent, alpha) * error, FARTHEST)

    def _widening(self, percent: float | None, alpha: float) -> float:
        """How many standard errors the interval of a mean of such rounds reaches, for what neighbours share."""
        series = [np.log(np.maximum(side.by_run(percent), LEAST_SECONDS)) for side in self._both]
        if self._paired:
            return widening(series[0] - series[1], alpha)
        return max(widening(each, alpha) for each in series)


class _Side:
    """The gaps of one model: sorted, with the run that each is of."""

    def __init__(self, runs: Sequence[Floats]) -> None:
        self._runs = [np.asarray(run, np.float64) for run in runs]
        values = np.concatenate(self._runs)
        order = np.argsort(values, kind="stable")
        self._sorted, owners = values[order], np.repeat(np.arange(len(runs)), [len(run) for run in runs])
        self._owners = owners[order]

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._runs)

    def tells(self, percent: float | None) -> bool:
        """Whether there are runs enough, and gaps enough beyond the percentile."""
        beyond = math.inf if percent is None else len(self._sorted) * (1 - percent / 100)
        return len(self._runs) >= FEWEST_RUNS and beyond >= FEWEST_BEYOND

    def value(self, percent: float | None) -> float:
        """Of all gaps."""
        return float(self._sorted.mean() if percent is None else np.percentile(self._sorted, percent))

    def by_run(self, percent: float | None) -> NDArray[np.float64]:
        """(runs,) the same of each run by itself."""
        each = [run.mean() if percent is None else np.percentile(run, percent) for run in self._runs if len(run)]
        return np.array(each, np.float64)

    def drawn(self, percent: float | None, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """(draws,) the same where each run counts as often as it was drawn."""
        sizes = np.array([len(run) for run in self._runs])
        if percent is None:
            sums = np.array([run.sum() for run in self._runs])
            found: NDArray[np.float64] = (counts @ sums) / np.maximum(counts @ sizes, 1)
            return found
        reached = counts[:, self._owners].cumsum(1) >= (percent / 100 * (counts @ sizes))[:, None]
        places: NDArray[np.intp] = reached.argmax(1)
        return np.take(self._sorted, places)


def _joined(runs: Sequence[Floats]) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(run, np.float64) for run in runs]) if len(runs) else np.zeros(0)
