"""A sweep's points: how many times as fast as its reference a model is at each, and when that is left open.

A ratio is of pairs of runs that stood beside each other, or, where the reference was measured by itself, of both means;
where prompts of a list were answered, of each prompt's, as T1's is.
Where the machine's own speed changed while a point was measured, or since the reference's, there is no ratio, by the
same rule as T1's (see rates).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.judge import rates
from pytest_quantbench.measures.sweep.samples import PointRun, PointSamples
from pytest_quantbench.stats import gaps, speeds
from pytest_quantbench.stats.estimates import Ratio
from pytest_quantbench.stats.percentiles import Percentile
from pytest_quantbench.stats.rounds import mean_of_rounds


def reference_runs(point: PointSamples, reference: PointSamples | None) -> tuple[PointRun, ...]:
    """The reference's runs that a ratio is of; none where there are none."""
    return point.reference_runs or (() if reference is None else reference.runs)


def suppressed(point: PointSamples, reference: PointSamples | None) -> str:
    """Why a point has no ratio; empty where it has."""
    beside = point if point.reference_runs else reference
    return "" if beside is None else rates.suppressed(point, beside)


def ratio(
    point: PointSamples, runs: Sequence[PointRun], own: NDArray[np.float64], reference: NDArray[np.float64]
) -> Ratio | None:
    """Of (runs,) figures of a point, such as rates, over those of the reference's `runs`. None with fewer than two of
    either, and where there is no spread.
    """
    if len({run.prompt for run in point.runs}) > 1:
        mine, other = _by_prompt(point.runs, own), _by_prompt(runs, reference)
        return speeds.paired_ratio(other, mine) if point.reference_runs else speeds.unpaired_ratio(other, mine)
    logarithms = [np.log(own), np.log(reference)]
    if point.reference_runs:
        found = mean_of_rounds(logarithms[0] - logarithms[1])
        return None if found is None else Ratio(logarithm=found)
    means = [mean_of_rounds(each) for each in logarithms]
    known = [each for each in means if each is not None]
    return Ratio(logarithm=known[0].less(known[1])) if len(known) == len(means) else None


def _by_prompt(runs: Sequence[PointRun], figures: NDArray[np.float64]) -> list[tuple[int, float]]:
    return [(run.prompt, figure) for run, figure in zip(runs, figures.tolist(), strict=True)]


def gap_ratios(point: PointSamples, reference: Sequence[PointRun]) -> dict[str, Percentile]:
    """How many times the reference's the percentiles of the gaps between tokens are; empty where there are none."""
    own, other = ([run.gaps_seconds for run in runs if len(run.gaps_seconds)] for runs in (point.runs, reference))
    return gaps.gap_ratios(own, other, paired=bool(point.reference_runs)) if own and other else {}
