"""Right and wrong answers, paired: flips, Tango's score interval, McNemar's test, Wilson's interval, and the unpaired
test of published tables, for comparison only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench import stats
from pytest_quantbench.drawing import Drawn
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.estimates import ALPHA, POWER, Exact, normal_quantile, student_quantile
from pytest_quantbench.verdict import Interval

CONTINUITY = 0.5  # of a question


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Paired right and wrong answers: `lost` right → wrong, `gained` wrong → right, of `questions`.

    As an estimate it is the drop in accuracy, in percentage points, with the score test of Tango 1998 ("Equivalence
    test and confidence interval for the difference in proportions for the paired-sample design", Statistics in
    Medicine 17): it has a width even where nothing flipped. With few flips that test is wrong more often than it says
    (7.3 % instead of 5 at 200 questions and 2 % flips): half a question is taken off the difference (a continuity
    correction), after which it was not in any setting enumerated (tests).
    """

    lost: int
    gained: int
    questions: int

    @property
    def value(self) -> float:
        """The drop in accuracy, in percentage points."""
        return 100 * self.drop

    @property
    def drop(self) -> float:
        """The drop in accuracy, as a fraction of the questions."""
        return (self.lost - self.gained) / self.questions

    @property
    def rate(self) -> float:
        """The share of the questions whose answer flipped."""
        return (self.lost + self.gained) / self.questions

    def interval(self, alpha: float = ALPHA) -> Interval:
        """All drops that the score test accepts, in points."""
        z = normal_quantile(alpha)
        low = _root(lambda delta: self._score(delta) - z, -1.0, self.drop)
        high = _root(lambda delta: self._score(delta) + z, self.drop, 1.0)
        return Interval(estimate=self.value, low=100 * low, high=100 * high, confidence=1 - 2 * alpha)

    def p_below(self, limit: float) -> float:
        """Of the score test against a limit in points."""
        from scipy.stats import norm

        return float(norm.cdf(self._score(limit / 100)))

    def p_above(self, limit: float) -> float:
        """Of the score test against a limit in points."""
        from scipy.stats import norm

        return float(norm.sf(self._score(limit / 100)))

    def detectable(self, limit: float, alpha: float = ALPHA) -> float:
        """In points, at the flip rate that was seen, or at one flip where there was none."""
        rate = max(self.rate, 1 / self.questions)
        return 100 * (normal_quantile(alpha) + normal_quantile(1 - POWER)) * math.sqrt(rate / self.questions)

    def questions_for(self, points: float, alpha: float = ALPHA) -> int:
        """How many questions tell a drop of so many points from none, at the flip rate that was seen (power 80 %)."""
        rate = max(self.rate, 1 / self.questions)
        return math.ceil(rate * ((normal_quantile(alpha) + normal_quantile(1 - POWER)) / (points / 100)) ** 2)

    def _score(self, delta: float) -> float:
        """Tango's T(Δ₀), decreasing in Δ₀; its variance uses the restricted maximum likelihood estimate of p₂₁."""
        n, b, c = self.questions, self.lost, self.gained
        linear = -b - c + (2 * n - b + c) * delta
        constant = -c * delta * (1 - delta)
        p = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * p + delta * (1 - delta))
        gap = b - c - n * delta
        gap = math.copysign(max(abs(gap) - CONTINUITY, 0.0), gap)
        if variance <= 0:  # only at Δ₀ = 0 without flips, or at the ends, where the score is 0 or infinite
            return 0.0 if gap == 0 else math.copysign(math.inf, gap)
        return gap / math.sqrt(variance)


def flips(reference: NDArray[np.bool_], quantized: NDArray[np.bool_]) -> Flips:
    """Count the flips between two (n,) arrays of right answers. Raises ComparisonError on other lengths or none."""
    if len(reference) != len(quantized) or len(reference) == 0:
        raise ComparisonError(f"{len(quantized)} quantized answers against {len(reference)} of the reference.")
    lost, gained = int(np.sum(reference & ~quantized)), int(np.sum(~reference & quantized))
    return Flips(lost=lost, gained=gained, questions=len(reference))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """The zero of a decreasing function by bisection; 60 halvings are below float64's resolution of (−1, 1)."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def mcnemar_p(observed: Flips) -> float:
    """Exact two-sided p of McNemar's test: are losses and gains equally likely? 1 where nothing flipped."""
    from scipy.stats import binomtest

    flipped = observed.lost + observed.gained
    return float(binomtest(observed.lost, flipped, 0.5).pvalue) if flipped else 1.0


def wilson(hits: float, trials: float, alpha: float = ALPHA) -> Interval:
    """Wilson's score interval of one proportion, as a fraction (Wilson 1927). Raises ComparisonError for less than one
    trial; of dependent ones, as many may be given as they are worth, whole or not.
    """
    if trials < 1:
        raise ComparisonError("A proportion of no trials says nothing.")
    z, share = normal_quantile(alpha), hits / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return Interval(estimate=share, low=centre - half, high=centre + half, confidence=1 - 2 * alpha)


def share_of(hits: NDArray[np.bool_], drawn: Drawn | None = None, alpha: float = ALPHA) -> Interval:
    """The share of hits at the tokens of a text, which depend on each other, as a fraction.

    Wilson's interval with as many independent trials as the error between blocks or windows is worth, at most as many
    as there are, and with Student's quantile in place of the normal one; of a text that was read whole, exact.
    """
    found = stats.mean(hits.astype(np.float64), drawn)
    if isinstance(found, Exact):
        return found.interval(alpha)
    trials = float(len(hits)) if drawn is None else len(hits) / drawn.finite
    if found is not None:
        worth = found.value * (1 - found.value) / found.standard_error**2
        quantiles = normal_quantile(alpha) / student_quantile(alpha, found.degrees)
        trials = max(1.0, min(trials, worth) * quantiles**2)
    return wilson(float(hits.mean()) * trials, trials, alpha)


GUESSING_P = 0.05  # more than guessing is what guessing gives less often than that


def above_chance_p(right: int, questions: int, chance: float) -> float:
    """Exact one-sided binomial p: how likely are so many right answers by guessing?"""
    from scipy.stats import binom

    return float(binom.sf(right - 1, questions, chance))


def unpaired_z(first: float, second: float, questions: int) -> tuple[float, float]:
    """z and two-sided p of the pooled two-proportion test, for comparison with published work only."""
    pooled = (first + second) / 2
    standard_error = math.sqrt(2 * pooled * (1 - pooled) / questions)
    z = abs(first - second) / standard_error if standard_error else 0.0
    return z, math.erfc(z / math.sqrt(2))


def detectable_drop_unpaired(accuracy: float, questions: int) -> float:
    """The smallest drop, in points, that two separate samples find, two-sided 5 % as published tables have it."""
    factor = normal_quantile(ALPHA / 2) + normal_quantile(1 - POWER)
    return 100 * factor * math.sqrt(2 * accuracy * (1 - accuracy) / questions)
