"""A sweep's points: how many times as fast as its reference a model is at each, and when that is left open.

A ratio is of pairs of runs that stood beside each other, or, where the reference was measured by itself, of both means.
Where the machine's own speed changed while a point was measured, or since the reference's, there is no ratio, by the
same rule as T1's (see rates).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.judge import rates
from pytest_quantbench.measures.sweep.samples import PointRun, PointSamples
from pytest_quantbench.stats import gaps
from pytest_quantbench.stats.estimates import Ratio, Student
from pytest_quantbench.stats.percentiles import Percentile
from pytest_quantbench.stats.rounds import mean_of_rounds

STRETCHES = 4  # of a point's probes, whose middle ones are held against each other


def reference_runs(point: PointSamples, reference: PointSamples | None) -> tuple[PointRun, ...]:
    """The reference's runs that a ratio is of; none where there are none."""
    return point.reference_runs or (() if reference is None else reference.runs)


def levels(probes: Sequence[float]) -> list[float]:
    """The middle probe of each quarter of a point's, which a single odd one does not move; of few probes, each."""
    return [float(np.median(part)) for part in np.array_split(np.array(probes), min(STRETCHES, len(probes)))]


def largest_change(earlier: Sequence[float], later: Sequence[float] = ()) -> float:
    """How much faster a fixed product was at one time than at one before, as a share: the largest, of which half and
    double the speed are equally large. `later`: of the times of one measurement against those of another.
    """
    before, behind = levels(earlier), levels(later) if later else []
    pairs = [(one, other) for one in before for other in behind]
    pairs = pairs or [(one, other) for place, one in enumerate(before) for other in before[place + 1 :]]
    changes = [other / one - 1 for one, other in pairs]
    return max(changes, key=lambda change: abs(math.log1p(change)), default=0.0)


def suppressed(point: PointSamples, reference: PointSamples | None) -> str:
    """Why a point has no ratio; empty where it has."""
    own = largest_change(point.probes_per_second)
    if rates.is_drifting(own):
        return f"the machine's own speed changed by {own:+.0%} meanwhile"
    if point.reference_runs or reference is None:
        return ""
    between = largest_change(reference.probes_per_second, point.probes_per_second)
    if rates.is_drifting(between):
        return f"the machine's own speed changed by {between:+.0%} since the reference was measured"
    return ""


def ratio(point: PointSamples, own: NDArray[np.float64], reference: NDArray[np.float64]) -> Ratio | None:
    """Of (runs,) figures of a point, such as rates, over those of its reference. None with fewer than two runs of
    either, and where there is no spread.
    """
    logarithms = [np.log(own), np.log(reference)]
    if point.reference_runs:
        found = mean_of_rounds(logarithms[0] - logarithms[1])
        return None if found is None else Ratio(logarithm=found)
    means = [mean_of_rounds(each) for each in logarithms]
    known = [each for each in means if each is not None]
    if len(known) < len(means):
        return None
    error = math.hypot(*(each.standard_error for each in known))
    degrees = min(each.degrees for each in known)
    value = known[0].value - known[1].value
    return Ratio(logarithm=Student(value=value, standard_error=error, degrees=degrees))


def gap_ratios(point: PointSamples, reference: Sequence[PointRun]) -> dict[str, Percentile]:
    """How many times the reference's the percentiles of the gaps between tokens are; empty where there are none."""
    own, other = ([run.gaps_seconds for run in runs if len(run.gaps_seconds)] for runs in (point.runs, reference))
    return gaps.gap_ratios(own, other, paired=bool(point.reference_runs)) if own and other else {}
