"""A check that goes on while it is undecided: more samples, look after look, until the verdict stands.

Each look has its own error probability from `sequential`, on both sides, so that the chance of a wrong verdict over all
looks stays what it is for a single one. The measure hands over samples; it knows nothing of looks.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

from pytest_quantbench.judge.verdict import Look, Verdict
from pytest_quantbench.stats import sequential
from pytest_quantbench.stats.estimates import ALPHA

HALVINGS = 20  # of an adjusted p value: to a relative 2e-6 × its range in logarithms
SMALLEST_P = 1e-12
UNBOUNDED = 1e12


def sizes(first: int, most: int, factor: int = 2) -> list[int]:
    """The planned numbers of samples: `first`, then `factor` times as many, up to `most`."""
    planned = [first] if first < most else [most]
    while planned[-1] < most:
        planned.append(min(planned[-1] * factor, most))
    return planned


def follow(
    planned: Sequence[int],
    grow: Callable[[int], int],
    verdict_at: Callable[[int, float], Verdict],
    deadline_seconds: float | None = None,
    whole: int | None = None,
    hopeless: Callable[[int], bool] = lambda items: False,
) -> Verdict:
    """Look until the verdict is decided, the plan is done, or `time.monotonic()` is beyond the deadline.

    `grow(n)` sees to it that there are n samples and returns how many there are; fewer than asked for means that there
    are no more. `verdict_at(n, alpha)` judges the first n. The last look spends what is left of the error
    probability: when it is the last depends on the clock or the end of the data, never on the samples.

    `whole` items are all that there are to know, where samples are drawn without replacement from so many: a look at
    them is exact, and the looks before it share the error probability among themselves. A verdict that is undecided
    after n samples stays so where `hopeless(n)` says that no more of them would help.
    """
    most = max((items for items in planned if whole is None or items < whole), default=planned[-1] - 1)
    fractions: list[float] = []
    seen: list[Look] = []
    for wanted in planned:
        items = min(grow(wanted), wanted)  # there may be more, from looks of another limit
        if items == whole:
            verdict = verdict_at(items, ALPHA)
            seen.append(_look(verdict, items, 1.0, ALPHA, ended=True))
            break
        fraction = information(items, whole) / information(most, whole)
        if fractions and fraction <= fractions[-1]:  # nothing was added: the look before was the last
            del fractions[-1], seen[-1]
        fractions.append(fraction)
        late = deadline_seconds is not None and time.monotonic() > deadline_seconds
        ended = wanted == planned[-1] or items < wanted or late
        alpha = sequential.levels(fractions, ALPHA, ended=ended)[-1]
        verdict = verdict_at(items, alpha)
        seen.append(_look(verdict, items, fraction, alpha, ended=ended))
        if verdict.outcome != "undecided" or ended or hopeless(items):
            break
    return dataclasses.replace(verdict, looks=tuple(seen))


def information(items: int, whole: int | None) -> float:
    """What so many items tell, up to a factor: one over the variance of their mean, 1 / items − 1 / whole."""
    return float(items) if whole is None else items / (1 - items / whole)


def adjusted(verdict: Verdict) -> Verdict:
    """The same verdict with p values that allow for its looks: the smallest α at which the last look would decide.

    A single look is what it is, and so is one that was exact.
    """
    if (len(verdict.looks) == 1 and verdict.looks[0].last) or verdict.confidence == 1:
        return verdict
    good, bad = (_adjusted_p(p, verdict.looks) for p in (verdict.p_good, verdict.p_bad))
    return dataclasses.replace(verdict, p_good=good, p_bad=bad)


def _look(verdict: Verdict, items: int, fraction: float, alpha: float, *, ended: bool) -> Look:
    return Look(
        items=items,
        fraction=fraction,
        alpha=alpha,
        estimate=verdict.estimate,
        low=_bound(verdict.low),
        high=_bound(verdict.high),
        outcome=verdict.outcome,
        last=ended,
    )


def _bound(end: float | None) -> float | None:
    """The end of an interval; None for one that next to no error probability has pushed out of sight."""
    return end if end is not None and abs(end) < UNBOUNDED else None


def _adjusted_p(p: float | None, seen: Sequence[Look]) -> float | None:
    if p is None:
        return None
    fractions, low, high = [look.fraction for look in seen], SMALLEST_P, 0.999
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5 if low < 0.01 else (low + high) / 2
        decided = p <= sequential.levels(fractions, middle, ended=seen[-1].last)[-1]
        low, high = (low, middle) if decided else (middle, high)
    return max(p, high)
