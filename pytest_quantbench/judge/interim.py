"""A check that goes on while it is undecided: more samples, look after look, until the verdict stands.

Each look has its own error probability from `sequential`, on both sides, so that the chance of a wrong verdict over all
looks stays what it is for a single one. The measure hands over samples; it knows nothing of looks.
"""

import dataclasses
import time
from collections.abc import Sequence

from pytest_quantbench.judge.anomaly import is_suspicious
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


class Looks:
    """The looks of one verdict: whoever has the samples takes one after the other, until there is none `wanted`.

    They end when the verdict is decided, and no pass that is suspicious (see anomaly), when the plan is done, or when
    `time.monotonic()` is beyond the deadline. The last look
    spends what is left of the error probability: when it is the last depends on the clock or the end of the data, never
    on the samples.

    `whole` items are all that there are to know, where samples are drawn without replacement from so many: a look at
    them is exact, and the looks before it share the error probability among themselves.
    """

    def __init__(self, planned: Sequence[int], deadline_seconds: float | None = None, whole: int | None = None) -> None:
        self._planned, self._deadline_seconds, self._whole = list(planned), deadline_seconds, whole
        self._most = max((items for items in planned if whole is None or items < whole), default=planned[-1] - 1)
        self._fractions: list[float] = []
        self._seen: list[Look] = []
        self._verdict: Verdict | None = None
        self._next = 0
        self._ended = False

    @property
    def wanted(self) -> int | None:
        """How many items the next look is to have; None: there is no other look."""
        return None if self._ended else self._planned[self._next]

    def at(self, there: int) -> tuple[int, float]:
        """The next look: how many items, and the error probability that it may spend, where so many items are there.

        Fewer than wanted means that there are no more; there may be more, from looks of another limit.
        """
        wanted = self._planned[self._next]
        items = min(there, wanted)
        if items == self._whole:
            self._fractions.append(1.0)
            self._ended = True
            return items, ALPHA
        fraction = information(items, self._whole) / information(self._most, self._whole)
        if self._fractions and fraction <= self._fractions[-1]:  # nothing was added: the look before was the last
            del self._fractions[-1], self._seen[-1]
        self._fractions.append(fraction)
        late = self._deadline_seconds is not None and time.monotonic() > self._deadline_seconds
        self._ended = wanted == self._planned[-1] or items < wanted or late
        return items, sequential.levels(self._fractions, ALPHA, ended=self._ended)[-1]

    def add(self, items: int, alpha: float, verdict: Verdict, *, hopeless: bool = False) -> None:
        """The verdict of this look. One that is undecided stays so where it is `hopeless`: no more items would help."""
        self._seen.append(_look(verdict, items, self._fractions[-1], alpha, ended=self._ended))
        self._verdict = verdict
        self._next += 1
        settled = verdict.outcome != "undecided" and not is_suspicious(verdict)
        self._ended = self._ended or settled or hopeless

    @property
    def verdict(self) -> Verdict:
        """The last look's, with all looks."""
        assert self._verdict is not None  # a plan has one look at least
        return dataclasses.replace(self._verdict, looks=tuple(self._seen))


def information(items: int, whole: int | None) -> float:
    """What so many items tell, up to a factor: one over the variance of their mean, 1 / items − 1 / whole."""
    return float(items) if whole is None else items / (1 - items / whole)


def adjusted(verdict: Verdict) -> Verdict:
    """The same verdict with p values that allow for its looks: the smallest α at which the last look would decide.

    A single look is what it is, and so is one that was exact.
    """
    if (len(verdict.looks) == 1 and verdict.looks[0].last) or verdict.confidence == 1:
        return verdict
    good, bad, better = (_adjusted_p(p, verdict.looks) for p in (verdict.p_good, verdict.p_bad, verdict.p_better))
    return dataclasses.replace(verdict, p_good=good, p_bad=bad, p_better=better)


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
