"""Which of several cells no other beats on both cost and loss (Pareto's front), and how sure that is.

A cell is dominated by the estimate where another costs no more and loses no more, and one of the two is less. It is
dominated beyond doubt where the claim "this one costs no more and loses less" holds for some other cell with an error
probability of at most `alpha` over all that were tried (Bonferroni over them): a cell that nothing dominates is called
dominated beyond doubt with that probability at most.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_quantbench.stats.estimates import ALPHA, Interval, normal_quantile

Word = Literal["on the front", "dominated by the estimate", "dominated beyond doubt"]
WORDS: tuple[Word, ...] = ("on the front", "dominated by the estimate", "dominated beyond doubt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a cell stands.

    `by` is the place of the cell that dominates it, None on the front. Where several do: beyond doubt the one whose
    test has the smallest p, by the estimate the one that loses least. `p` is the error probability of the claim "this
    cell is dominated", corrected for the number of cells that it was tested against; 1 where there were none.
    """

    word: Word
    by: int | None = None
    p: float = 1.0


def standings(
    costs: Sequence[float],
    losses: Sequence[float],
    p_dominated: Mapping[tuple[int, int], float],
    alpha: float = ALPHA,
) -> list[Standing]:
    """Each cell's standing. `p_dominated[i, j]` is the p of the test that says: cell j costs no more than cell i and
    loses less. Every pair in it counts as tried, so which are must not depend on the losses.
    """
    return [_standing(place, costs, losses, p_dominated, alpha) for place in range(len(costs))]


def _standing(
    place: int,
    costs: Sequence[float],
    losses: Sequence[float],
    p_dominated: Mapping[tuple[int, int], float],
    alpha: float,
) -> Standing:
    tried = {other: p for (cell, other), p in p_dominated.items() if cell == place}
    surest = min(tried, key=lambda other: (tried[other], other), default=None)
    p = 1.0 if surest is None else min(1.0, len(tried) * tried[surest])
    if surest is not None and p <= alpha:
        return Standing(word="dominated beyond doubt", by=surest, p=p)
    mine = (costs[place], losses[place])
    beating = [
        other
        for other, theirs in enumerate(zip(costs, losses, strict=True))
        if theirs[0] <= mine[0] and theirs[1] <= mine[1] and theirs != mine
    ]
    if beating:
        return Standing(word="dominated by the estimate", by=min(beating, key=lambda other: losses[other]), p=p)
    return Standing(word="on the front", p=p)


def p_less(first: Interval, second: Interval, floor: float = 0.0) -> float:
    """The p of the test that says: the first figure's truth is less than the second's by more than `floor`. It is made
    from their intervals alone; 1 where one of them has a confidence of 0, since nothing is known of its error then.

    Standard errors are read off the intervals as if normal, and the two count as independent: differences from one
    and the same reference rise and fall together, which makes this say less than it could. Without any width on both,
    0 or 1.
    """
    from scipy.special import ndtr

    if not first.confidence or not second.confidence:
        return 1.0
    gap = first.estimate + floor - second.estimate
    halves = (first, first.high - first.estimate), (second, second.estimate - second.low)
    error = math.hypot(*(_standard_error(interval, half) for interval, half in halves))
    if not error:
        return float(gap >= 0)
    return float(ndtr(gap / error))


def _standard_error(interval: Interval, half: float) -> float:
    """Of the half of an interval that lies towards the other figure."""
    return 0.0 if interval.low == interval.high else half / normal_quantile((1 - interval.confidence) / 2)
