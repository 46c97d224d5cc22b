"""A figure with its uncertainty: an interval at any error probability, and how surely it lies below or above a limit.

What a verdict is made from. `ALPHA` is one-sided on each side, so plain intervals are two-sided 90 %.
"""

import math
from dataclasses import dataclass
from typing import Protocol

ALPHA = 0.05
POWER = 0.8
NO_SPREAD = 1e-9  # a standard error below this share of the figure is rounding, and says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its two-sided interval, the error probability spread evenly over the two sides."""

    estimate: float
    low: float
    high: float
    confidence: float = 0.9

    @property
    def reach(self) -> float:
        """How far the farther end is from the estimate: what stands behind a ±, which both ends lie within."""
        return max(self.high - self.estimate, self.estimate - self.low)


class Estimate(Protocol):
    """A figure and what is known of its error."""

    @property
    def value(self) -> float:
        """The figure itself."""

    def interval(self, alpha: float = ALPHA) -> Interval:
        """Where the truth lies, with error probability `alpha` on each side."""

    def p_below(self, limit: float) -> float:
        """One-sided p of the test that says: the truth is below the limit. The interval ends there at α = p."""

    def p_above(self, limit: float) -> float:
        """One-sided p of the test that says: the truth is above the limit."""

    def detectable(self, limit: float, alpha: float = ALPHA) -> float:
        """How far from the limit the truth has to be to be told from it with power `POWER`, in the figure's unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A figure with a standard error of so many degrees of freedom."""

    value: float
    standard_error: float
    degrees: float

    def interval(self, alpha: float = ALPHA) -> Interval:
        """Student's t."""
        half = student_quantile(alpha, self.degrees) * self.standard_error
        return Interval(estimate=self.value, low=self.value - half, high=self.value + half, confidence=1 - 2 * alpha)

    def p_below(self, limit: float) -> float:
        """Lower tail of Student's t."""
        from scipy.special import stdtr

        return float(stdtr(self.degrees, (self.value - limit) / self.standard_error))

    def p_above(self, limit: float) -> float:
        """Upper tail of Student's t."""
        from scipy.special import stdtr

        return float(stdtr(self.degrees, -(self.value - limit) / self.standard_error))

    def detectable(self, limit: float, alpha: float = ALPHA) -> float:
        """The quantiles of the test and of the power, times the standard error; the same at any limit."""
        return (student_quantile(alpha, self.degrees) + normal_quantile(1 - POWER)) * self.standard_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """exp of a figure: from a mean log ratio to a ratio."""

    logarithm: Estimate

    @property
    def value(self) -> float:
        """The ratio; the largest there is where it overflows a float64."""
        return math.exp(min(self.logarithm.value, 709))

    def interval(self, alpha: float = ALPHA) -> Interval:
        """exp of the logarithm's interval; an end that overflows a float64 is its largest number."""
        inner = self.logarithm.interval(alpha)
        low, high = (math.exp(min(end, 709)) for end in (inner.low, inner.high))
        return Interval(estimate=self.value, low=low, high=high, confidence=inner.confidence)

    def p_below(self, limit: float) -> float:
        """Of the logarithm; no ratio is below a limit that is not positive."""
        return self.logarithm.p_below(math.log(limit)) if limit > 0 else 1.0

    def p_above(self, limit: float) -> float:
        """Of the logarithm; every ratio is above a limit that is not positive."""
        return self.logarithm.p_above(math.log(limit)) if limit > 0 else 0.0

    def detectable(self, limit: float, alpha: float = ALPHA) -> float:
        """Above the limit."""
        return limit * math.expm1(self.logarithm.detectable(0.0, alpha))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpDifference:
    """exp(after) − exp(before) of two means with a joint error: a perplexity delta from mean losses in nats.

    Its delta-method error grows with the estimate itself, since both are proportional to a perplexity that a short
    text leaves uncertain; the test of exp(after) < exp(before) + limit is therefore made on logarithms, where the
    error hardly depends on them: after − log(exp(before) + limit), and for a negative limit
    log(exp(after) − limit) − before.
    """

    after: float
    before: float
    covariance: tuple[float, float, float]  # of the means: var(after), cov(after, before), var(before)
    degrees: float

    @property
    def value(self) -> float:
        """The difference itself."""
        return math.exp(self.after) - math.exp(self.before)

    def interval(self, alpha: float = ALPHA) -> Interval:
        """All limits from which the difference cannot be told; an end beyond 1e300 is 1e300."""
        quantile = student_quantile(alpha, self.degrees)
        low, high = (self._end(sign * quantile, -sign) for sign in (1, -1))
        return Interval(estimate=self.value, low=low, high=high, confidence=1 - 2 * alpha)

    def p_below(self, limit: float) -> float:
        """Lower tail of Student's t."""
        from scipy.special import stdtr

        return float(stdtr(self.degrees, self._score(limit))) if self._known(limit) else 1.0

    def p_above(self, limit: float) -> float:
        """Upper tail of Student's t."""
        from scipy.special import stdtr

        return float(stdtr(self.degrees, -self._score(limit))) if self._known(limit) else 1.0

    def _known(self, limit: float) -> bool:
        """Whether there is any spread at this limit: where all tokens differ alike, nothing is known of the error."""
        return self._gap(limit)[1] > NO_SPREAD * (abs(self.after) + abs(self.before))

    def detectable(self, limit: float, alpha: float = ALPHA) -> float:
        """Above the limit, with the error that there is at the limit."""
        _, error = self._gap(limit)
        quantiles = student_quantile(alpha, self.degrees) + normal_quantile(1 - POWER)
        return (math.exp(self.before) + max(limit, 0.0)) * math.expm1(min(quantiles * error, 600.0))

    def _gap(self, limit: float) -> tuple[float, float]:
        """How far the logarithms of both sides are apart, and the standard error of that."""
        after, before = math.exp(self.after), math.exp(self.before)
        var_after, cov, var_before = self.covariance
        if limit >= 0:
            share = before / (before + limit)
            gap, variance = self.after - math.log(before + limit), var_after - 2 * share * cov + share**2 * var_before
        else:
            share = after / (after - limit)
            gap, variance = math.log(after - limit) - self.before, share**2 * var_after - 2 * share * cov + var_before
        return gap, math.sqrt(max(variance, 0.0))

    def _score(self, limit: float) -> float:
        gap, error = self._gap(limit)
        return gap / error if error else math.copysign(math.inf, gap)

    def _end(self, score: float, direction: int) -> float:
        """The limit at which the score, which falls as the limit rises, has this value: in a bracket that is doubled
        until it holds it.
        """
        from scipy.optimize import brentq

        step = 1e-6 * (abs(self.value) + 1e-6)
        while (self._score(self.value + direction * step) - score) * direction > 0:
            step *= 2
            if step > 1e300:
                return direction * 1e300
        outer = self.value + direction * step
        return float(brentq(lambda limit: self._score(limit) - score, self.value, outer, xtol=1e-15 * step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """A figure without error, such as a size. Meeting the limit exactly counts as being on either side of it."""

    value: float

    def interval(self, alpha: float = ALPHA) -> Interval:
        """No width."""
        return Interval(estimate=self.value, low=self.value, high=self.value, confidence=1.0)

    def p_below(self, limit: float) -> float:
        """0 or 1."""
        return float(self.value > limit)

    def p_above(self, limit: float) -> float:
        """0 or 1."""
        return float(self.value < limit)

    def detectable(self, limit: float, alpha: float = ALPHA) -> float:
        """Any difference is seen."""
        return 0.0


def student_quantile(alpha: float, degrees: float) -> float:
    """The upper `alpha` quantile of Student's t."""
    from scipy.special import stdtrit

    return -float(stdtrit(degrees, alpha))


def normal_quantile(alpha: float) -> float:
    """The upper `alpha` quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return -float(ndtri(alpha))
