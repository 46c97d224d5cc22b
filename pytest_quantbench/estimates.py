"""A figure with its uncertainty: an interval at any error probability, and how surely it lies below or above a limit.

What a verdict is made from. `ALPHA` is one-sided on each side, so plain intervals are two-sided 90 %.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from pytest_quantbench.verdict import Interval

ALPHA = 0.05
POWER = 0.8


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
    degrees: int

    def interval(self, alpha: float = ALPHA) -> Interval:
        """Student's t."""
        half = student_quantile(alpha, self.degrees) * self.standard_error
        return Interval(estimate=self.value, low=self.value - half, high=self.value + half, confidence=1 - 2 * alpha)

    def p_below(self, limit: float) -> float:
        """Lower tail of Student's t."""
        from scipy.stats import t

        return float(t.cdf((self.value - limit) / self.standard_error, self.degrees))

    def p_above(self, limit: float) -> float:
        """Upper tail of Student's t."""
        from scipy.stats import t

        return float(t.sf((self.value - limit) / self.standard_error, self.degrees))

    def detectable(self, limit: float, alpha: float = ALPHA) -> float:
        """The quantiles of the test and of the power, times the standard error; the same at any limit."""
        return (student_quantile(alpha, self.degrees) + normal_quantile(1 - POWER)) * self.standard_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """exp of a figure: from a mean log ratio to a ratio."""

    logarithm: Student

    @property
    def value(self) -> float:
        """The ratio."""
        return math.exp(self.logarithm.value)

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


def student_quantile(alpha: float, degrees: int) -> float:
    """The upper `alpha` quantile of Student's t."""
    from scipy.stats import t

    return float(t.isf(alpha, degrees))


def normal_quantile(alpha: float) -> float:
    """The upper `alpha` quantile of the standard normal distribution."""
    from scipy.stats import norm

    return float(norm.isf(alpha))
