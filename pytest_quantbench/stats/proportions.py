"""Right and wrong answers, paired: flips, Tango's score interval, McNemar's test, Wilson's interval, and the unpaired
test of published tables, for comparison only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.stats import series
from pytest_quantbench.stats.clusters import PRIOR_FLIPS, Clusters, clusters_of
from pytest_quantbench.stats.estimates import ALPHA, POWER, Exact, Interval, normal_quantile, student_quantile
from pytest_quantbench.stats.window_sampling import Drawn

CONTINUITY = 0.5  # of a question
MOST = 1e6  # standard errors: beyond any that are met


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Paired right and wrong answers: `lost` right → wrong, `gained` wrong → right, of `questions`.

    As an estimate it is the drop in accuracy, in percentage points, with the score test of Tango 1998 ("Equivalence
    test and confidence interval for the difference in proportions for the paired-sample design", Statistics in
    Medicine 17): it has a width even where nothing flipped. With few flips that test is wrong more often than it says
    (7.3 % instead of 5 at 200 questions and 2 % flips): half a question is taken off the difference (a continuity
    correction), after which it was not in any setting enumerated (tests).

    Where questions depend on each other, the score and the correction are those of as many independent ones as say the
    same: divided by √ of the `design_effect`, and compared with Student's t of so many `degrees` (see clusters; None:
    the questions are independent). With less than one degree nothing is said.
    """

    lost: int
    gained: int
    questions: int
    design_effect: float = 1.0
    degrees: float | None = None

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
        z = self._quantile(alpha)
        low, high = 100 * self._drop_of(z, -1.0), 100 * self._drop_of(-z, 1.0)
        return Interval(estimate=self.value, low=low, high=high, confidence=1 - 2 * alpha)

    def _drop_of(self, score: float, end: float) -> float:
        """The drop at which the score, which is infinite at the `end` (±1), has this value."""
        from scipy.optimize import brentq

        if math.isinf(score) or self.drop == end:
            return end
        return float(brentq(lambda drop: self._score(drop) - score, end, self.drop, xtol=1e-15))

    def p_below(self, limit: float) -> float:
        """Of the score test against a limit in points."""
        return self._upper_tail(-self._score(limit / 100))

    def p_above(self, limit: float) -> float:
        """Of the score test against a limit in points."""
        return self._upper_tail(self._score(limit / 100))

    def _upper_tail(self, score: float) -> float:
        from scipy.stats import norm, t

        if self.degrees is None:
            return float(norm.sf(score))
        return float(t.sf(score, self.degrees)) if self.degrees >= 1 else 1.0

    def _quantile(self, alpha: float) -> float:
        if self.degrees is None:
            return normal_quantile(alpha)
        return student_quantile(alpha, self.degrees) if self.degrees >= 1 else math.inf

    def detectable(self, limit: float, alpha: float = ALPHA) -> float:
        """In points, at the flip rate that was seen, or at one flip where there was none."""
        rate = max(self.rate, 1 / self.questions) * self.design_effect
        return 100 * min(self._quantile(alpha) + normal_quantile(1 - POWER), MOST) * math.sqrt(rate / self.questions)

    def questions_for(self, points: float, alpha: float = ALPHA) -> int:
        """How many questions tell a drop of so many points from none (power 80 %), at the flip rate that was seen and
        with clusters of the same size.
        """
        rate = max(self.rate, 1 / self.questions) * self.design_effect
        return math.ceil(rate * ((normal_quantile(alpha) + normal_quantile(1 - POWER)) / (points / 100)) ** 2)

    def _score(self, delta: float) -> float:
        """Tango's T(Δ₀), decreasing in Δ₀; its variance uses the restricted maximum likelihood estimate of p₂₁. A
        correction of half a question becomes √ of the design effect times that.
        """
        n, b, c = self.questions, self.lost, self.gained
        linear = -b - c + (2 * n - b + c) * delta
        constant = -c * delta * (1 - delta)
        p = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * p + delta * (1 - delta)) * self.design_effect
        gap = b - c - n * delta
        gap = math.copysign(max(abs(gap) - CONTINUITY * math.sqrt(self.design_effect), 0.0), gap)
        if variance <= 0:  # only at Δ₀ = 0 without flips, or at the ends, where the score is 0 or infinite
            return 0.0 if gap == 0 else math.copysign(math.inf, gap)
        return gap / math.sqrt(variance)


def flips(reference: NDArray[np.bool_], quantized: NDArray[np.bool_], names: Sequence[str] = ()) -> Flips:
    """Count the flips between two (n,) arrays of right answers. `names`: the cluster of each question, none: it stands
    alone. Raises ComparisonError on other lengths or no question.
    """
    if len(reference) != len(quantized) or len(reference) == 0:
        raise ComparisonError(f"{len(quantized)} quantized answers against {len(reference)} of the reference.")
    lost, gained = int(np.sum(reference & ~quantized)), int(np.sum(~reference & quantized))
    clusters = clusters_of(names, len(reference))
    change = reference.astype(np.float64) - quantized
    return Flips(
        lost=lost,
        gained=gained,
        questions=len(reference),
        design_effect=clusters.effect(change, PRIOR_FLIPS),
        degrees=None if clusters.single else clusters.degrees,
    )


def mcnemar_p(observed: Flips) -> float:
    """Exact two-sided p of McNemar's test: are losses and gains equally likely? 1 where nothing flipped."""
    from scipy.stats import binomtest

    flipped = observed.lost + observed.gained
    return float(binomtest(observed.lost, flipped, 0.5).pvalue) if flipped else 1.0


def wilson(hits: float, trials: float, alpha: float = ALPHA) -> Interval:
    """Wilson's score interval of one proportion, as a fraction (Wilson 1927). Raises ComparisonError for less than one
    trial; of dependent ones, as many may be given as they are worth, whole or not (scipy's takes whole ones alone).
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
    found = series.mean(hits.astype(np.float64), drawn)
    if isinstance(found, Exact):
        return found.interval(alpha)
    trials = float(len(hits)) if drawn is None else len(hits) / drawn.finite
    if found is not None:
        worth = found.value * (1 - found.value) / found.standard_error**2
        quantiles = normal_quantile(alpha) / student_quantile(alpha, found.degrees)
        trials = max(1.0, min(trials, worth) * quantiles**2)
    return wilson(float(hits.mean()) * trials, trials, alpha)


def share_of_clusters(hits: NDArray[np.bool_], names: Sequence[str] = (), alpha: float = ALPHA) -> Interval:
    """The share of hits among questions, as a fraction. `names`: the cluster of each question, none: it stands alone.

    Wilson's interval with as many independent trials as the clusters' design effect leaves, never more than there are
    questions, and with Student's quantile in place of the normal one where questions depend on each other (Korn and
    Graubard 1998). Raises ComparisonError for no question.
    """
    clusters = clusters_of(names, len(hits))
    trials = float(len(hits))
    if not clusters.single:
        quantile = student_quantile(alpha, clusters.degrees) if clusters.degrees >= 1 else math.inf
        worth = trials / clusters.effect(hits.astype(np.float64)) * (normal_quantile(alpha) / quantile) ** 2
        trials = max(1.0, worth)
    return wilson(float(hits.sum()) / max(1, len(hits)) * trials, trials, alpha)


GUESSING_P = 0.05  # more than guessing is what guessing gives less often than that


def above_chance_p(right: int, questions: int, chance: float) -> float:
    """Exact one-sided binomial p: how likely are so many right answers by guessing?"""
    from scipy.stats import binom

    return float(binom.sf(right - 1, questions, chance))


def excess_p(right: NDArray[np.bool_], chance: float, excess: float, names: Sequence[str] = ()) -> float:
    """One-sided p of "the accuracy is above chance by more than `excess`", both fractions: the exact binomial against
    their sum, which errs on the safe side where questions have different numbers of choices (Hoeffding 1956). Where
    questions belong to clusters of these names it is not below that of a score test with their design effect.
    """
    from scipy.stats import t

    level, clusters = chance + excess, clusters_of(names, len(right))
    if level >= 1:
        return 1.0
    exact = above_chance_p(int(right.sum()), len(right), level)
    if clusters.single or level <= 0:
        return exact
    score = _excess_score(right, level, clusters)
    return max(exact, float(t.sf(score, clusters.degrees))) if clusters.degrees >= 1 else 1.0


def _excess_score(right: NDArray[np.bool_], level: float, clusters: Clusters) -> float:
    effect = clusters.effect(right.astype(np.float64))
    return (float(right.mean()) - level) / math.sqrt(level * (1 - level) / len(right) * effect)


def questions_for_excess(
    right: NDArray[np.bool_], chance: float, excess: float, names: Sequence[str] = ()
) -> int | None:
    """How many questions would show the accuracy that was seen to be above chance by more than `excess`, by the
    square-root law, at least one more than there are. None where it is not, so that no number would do.
    """
    level = chance + excess
    if level >= 1 or right.mean() <= level:
        return None
    if level <= 0:
        return len(right) + 1
    score = _excess_score(right, level, clusters_of(names, len(right)))
    return max(len(right) + 1, math.ceil(len(right) * (normal_quantile(ALPHA) / score) ** 2))


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
