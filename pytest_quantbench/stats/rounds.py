"""Rounds of timed runs: each gives a figure, and neighbours are alike, as far as what disturbed them lasts.

Other programs come and go over seconds and minutes, so that two rounds in a row say less than two independent ones. Two
errors are made of the same figures, and the wider one holds, at whatever error probability is asked for:

- by neighbours: the mean of n figures whose neighbours have the correlation ρ is known as well as that of
  n (1 − ρ) / (1 + ρ) independent ones (Bartlett 1946, for dependence that fades geometrically). ρ is estimated from the
  figures, by which it comes out too low by about (1 + 3 ρ) / n (Kendall 1954): that is added, and below 0 counts as 0;
- by stretches: the means of five stretches in a row, as if these were independent (batch means; Schmeiser 1982). It
  sees what lasts longer than neighbours show, and has four degrees of freedom.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.stats.estimates import ALPHA, NO_SPREAD, Interval, Student, student_quantile

MOST_CORRELATION = 0.9  # of neighbours: beyond it, no number of rounds that anybody takes says anything
STRETCHES = 5
FEWEST_TO_CUT = 10  # rounds, below which stretches of them are not looked at
Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Widest:
    """A figure with several errors, of which that one holds that reaches farthest: at a smaller error probability it
    may be another one, of fewer degrees of freedom.
    """

    value: float
    errors: tuple[tuple[float, float], ...]  # standard error and degrees of freedom of each; at least one

    def _each(self) -> list[Student]:
        return [Student(value=self.value, standard_error=error, degrees=degrees) for error, degrees in self.errors]

    def interval(self, alpha: float = ALPHA) -> Interval:
        """The widest."""
        return max((each.interval(alpha) for each in self._each()), key=lambda each: each.reach)

    def p_below(self, limit: float) -> float:
        """The one nearest to one half, which is as far as the widest interval reaches."""
        return min((each.p_below(limit) for each in self._each()), key=lambda p: abs(p - 0.5))

    def p_above(self, limit: float) -> float:
        """The one nearest to one half."""
        return min((each.p_above(limit) for each in self._each()), key=lambda p: abs(p - 0.5))

    def detectable(self, limit: float, alpha: float = ALPHA) -> float:
        """The farthest; the same at any limit."""
        return max(each.detectable(limit, alpha) for each in self._each())

    def less(self, other: "Widest") -> "Widest":
        """The difference of two independent figures."""
        pairs = [(math.hypot(a, b), min(m, n)) for a, m in self.errors for b, n in other.errors]
        return Widest(value=self.value - other.value, errors=tuple(pairs))

    def shaken(self, error: float) -> "Widest":
        """With an error more, which is known."""
        errors = tuple((math.hypot(own, error), degrees) for own, degrees in self.errors)
        return Widest(value=self.value, errors=errors)


def correlation(series: Series) -> float:
    """Of neighbours in an (n,) series in the order of time, from 0 to 0.9."""
    centred, count = series - series.mean(), len(series)
    spread = float(centred @ centred)
    if count < 3 or spread == 0:
        return 0.0
    found = float(centred[1:] @ centred[:-1]) / spread
    return min(max(0.0, found + (1 + 3 * found) / count), MOST_CORRELATION)


def mean_of_rounds(values: Sequence[float] | NDArray[np.floating], beside: int = 0) -> Widest | None:
    """The mean of (n,) figures in the order of time, with the error that holds for neighbours that are alike. None with
    fewer than two figures, or without any spread. `beside`: how many means more were taken off the figures, each of
    which takes a share of their spread with it.
    """
    series = np.array(values, np.float64)
    if len(series) < 2 + beside or float(series.std()) <= NO_SPREAD * max(1.0, float(np.abs(series).max())):
        return None
    found = wider(_by_neighbours(series), _by_stretches(series))
    assert found is not None
    left = (len(series) - 1 - beside) / (len(series) - 1)
    errors = tuple((error / math.sqrt(left), degrees * left) for error, degrees in found.errors)
    return Widest(value=found.value, errors=errors)


def wider(*found: Student | Widest | None) -> Widest | None:
    """One figure with all of its errors, and the value of the first that has one; None where there is none."""
    known = [each for each in found if each is not None]
    if not known:
        return None
    errors = [each.errors if isinstance(each, Widest) else ((each.standard_error, each.degrees),) for each in known]
    return Widest(value=known[0].value, errors=tuple(error for each in errors for error in each))


def widening(values: Sequence[float] | NDArray[np.floating], alpha: float = ALPHA) -> float:
    """Half of the interval of a mean of rounds over the standard error of as many independent figures, by Student's t
    where all of them are the same.
    """
    series, found = np.array(values, np.float64), mean_of_rounds(values)
    if found is None:
        return student_quantile(alpha, max(len(series) - 1, 1))
    return found.interval(alpha).reach / (float(series.std(ddof=1)) / math.sqrt(len(series)))


def _by_neighbours(series: Series) -> Student:
    """The spread of few figures about their own mean is too small by the share (n − inflation) / (n − 1): it is divided
    by it.
    """
    alike, count = correlation(series), len(series)
    inflation = (1 + alike) / (1 - alike)
    seen = min(max(count - inflation, 1.0) / (count - 1), 1.0)
    error = float(series.std(ddof=1)) * math.sqrt(inflation / count / seen)
    return Student(value=float(series.mean()), standard_error=error, degrees=max(1.0, count / inflation - 1))


def _by_stretches(series: Series) -> Student | None:
    if len(series) < FEWEST_TO_CUT:
        return None
    means = np.array([stretch.mean() for stretch in np.array_split(series, STRETCHES)])
    error = float(means.std(ddof=1)) / math.sqrt(STRETCHES)
    return Student(value=float(series.mean()), standard_error=error, degrees=STRETCHES - 1)
