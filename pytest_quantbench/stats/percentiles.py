"""Percentiles of times that depend on each other, with intervals between order statistics, whatever their distribution.

Of n independent times, the number below the true p-quantile is binomial (n, p), so that two of the ordered times hold
that quantile between them with a known probability (David and Nagaraja 2003, "Order Statistics", section 7.1). Times of
one unit, such as a prompt, are slow and fast together: what n of them say is what n / D independent ones would, with
the design effect D of "it is below the quantile", and with Student's t in place of the normal distribution, because D
is known from a few units only (Woodruff 1952; Korn and Graubard 1998, for proportions). The binomial is that of so many
times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.stats.clusters import Clusters, clusters_of
from pytest_quantbench.stats.estimates import ALPHA, normal_quantile, student_quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """A percentile with its two-sided interval, the error probability spread evenly over the two sides. An end is null
    where even the shortest or the longest time that was measured may lie on the wrong side of it.
    """

    estimate: float
    low: float | None
    high: float | None
    confidence: float = 0.9


def percentiles(
    values: NDArray[np.floating], units: Sequence[int], percents: Sequence[float], alpha: float = ALPHA
) -> dict[str, Percentile]:
    """Of (n,) values, by the percent as text (`99.9`). `units` has n numbers: those of values that depend on each
    other are the same. The interval is for units like these, of which as many values are taken each; with fewer than
    two units nothing is known of it. Empty where there are no values.
    """
    ordered, clusters = np.sort(values.astype(np.float64)), clusters_of(list(map(str, units)), len(values))
    return {
        f"{percent:g}": _percentile(values, ordered, clusters, percent, alpha) for percent in percents if len(values)
    }


def _percentile(
    values: NDArray[np.floating], ordered: NDArray[np.float64], clusters: Clusters, percent: float, alpha: float
) -> Percentile:
    estimate = float(np.percentile(ordered, percent))
    below = (values <= estimate).astype(np.float64)
    low, high = _ranks(len(values), percent / 100, _worth(below, clusters, alpha), alpha)
    return Percentile(
        estimate=estimate,
        low=None if low is None else min(float(ordered[low - 1]), estimate),
        high=None if high is None else max(float(ordered[high - 1]), estimate),
        confidence=1 - 2 * alpha,
    )


def _worth(below: NDArray[np.float64], clusters: Clusters, alpha: float) -> int:
    """How many independent values say as much; 0: nothing is known of that."""
    if len(clusters.sizes) < 2:
        return 0
    narrower = normal_quantile(alpha) / student_quantile(alpha, clusters.degrees)
    return int(len(below) / clusters.effect(below) * narrower**2)


def _ranks(count: int, share: float, worth: int, alpha: float) -> tuple[int | None, int | None]:
    """Which of `count` ordered values, from 1 on, hold the quantile between them, if they say what so many independent
    ones do; None where no value does.
    """
    from scipy.stats import binom

    if not worth:
        return None, None
    low, high = int(binom.ppf(alpha, worth, share)), int(binom.isf(alpha, worth, share)) + 1  # of `worth` values
    first, last = math.floor(low * count / worth), math.ceil(high * count / worth)
    return (first if first >= 1 else None), (last if high <= worth else None)
