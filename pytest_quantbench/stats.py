"""Paired differences with intervals. Definitions: docs/method.md; nothing here knows a model or a threshold.

One-sided error probability is `ALPHA` on each side, so intervals are two-sided 90 %.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.record import Interval

ALPHA = 0.05
POWER = 0.8
BLOCK_TOKENS = 64


def perplexity(nll_nats: NDArray[np.floating]) -> float | None:
    """exp of the mean negative log-likelihood; None where that overflows a float64 (above 709 nats per token)."""
    mean = float(np.mean(nll_nats, dtype=np.float64))
    return math.exp(mean) if mean < 709 else None


def blocks_of(tokens: int, block_tokens: int = BLOCK_TOKENS) -> int:
    """How many contiguous blocks that many tokens are cut into; the last block takes the remainder."""
    return tokens // block_tokens


def mean_interval(values: NDArray[np.floating], block_tokens: int = BLOCK_TOKENS) -> Interval | None:
    """Interval of the mean of a dependent (n,) series from contiguous block sums, Student t with blocks − 1 degrees.

    None with fewer than two blocks: one block says nothing of the spread.
    """
    blocks = blocks_of(len(values), block_tokens)
    if blocks < 2:
        return None
    series = values.astype(np.float64)
    mean = float(series.mean())
    sums = np.add.reduceat(series - mean, np.arange(blocks) * block_tokens)
    standard_error = math.sqrt(blocks / (blocks - 1) * float(np.sum(sums**2))) / len(series)
    return _symmetric(mean, student_quantile(blocks - 1) * standard_error)


def perplexity_delta(
    reference_nats: NDArray[np.floating], quantized_nats: NDArray[np.floating], block_tokens: int = BLOCK_TOKENS
) -> Interval | None:
    """Interval of PPL_q − PPL_r on the same tokens, by the delta method (influence of each token, then blocks).

    None with fewer than two blocks or where a perplexity overflows. Raises ComparisonError on other lengths.
    """
    if len(reference_nats) != len(quantized_nats):
        raise ComparisonError(f"{len(quantized_nats)} quantized tokens against {len(reference_nats)} of the reference.")
    ppl_r, ppl_q = perplexity(reference_nats), perplexity(quantized_nats)
    if ppl_r is None or ppl_q is None:
        return None
    l_r, l_q = reference_nats.astype(np.float64), quantized_nats.astype(np.float64)
    influence = ppl_q * (l_q - l_q.mean()) - ppl_r * (l_r - l_r.mean())
    spread = mean_interval(influence, block_tokens)
    return spread and _symmetric(ppl_q - ppl_r, spread.high - spread.estimate)


def _symmetric(center: float, half_width: float) -> Interval:
    return Interval(estimate=center, low=center - half_width, high=center + half_width)


def exponential(interval: Interval) -> Interval | None:
    """The interval of exp(x): from a log-likelihood difference to a perplexity ratio. None where it overflows."""
    if interval.high > 709:
        return None
    return Interval(estimate=math.exp(interval.estimate), low=math.exp(interval.low), high=math.exp(interval.high))


def student_quantile(degrees: int) -> float:
    """The upper `ALPHA` quantile of Student's t."""
    from scipy.stats import t

    return float(t.ppf(1 - ALPHA, degrees))


def normal_quantile(probability: float) -> float:
    """The standard normal quantile."""
    from scipy.stats import norm

    return float(norm.ppf(probability))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Paired right and wrong answers: `lost` right → wrong, `gained` wrong → right, of `questions`."""

    lost: int
    gained: int
    questions: int

    @property
    def drop(self) -> float:
        """The drop in accuracy, as a fraction of the questions."""
        return (self.lost - self.gained) / self.questions

    @property
    def rate(self) -> float:
        """The share of the questions whose answer flipped."""
        return (self.lost + self.gained) / self.questions


def flips(reference: NDArray[np.bool_], quantized: NDArray[np.bool_]) -> Flips:
    """Count the flips between two (n,) arrays of right answers. Raises ComparisonError on other lengths or none."""
    if len(reference) != len(quantized) or len(reference) == 0:
        raise ComparisonError(f"{len(quantized)} quantized answers against {len(reference)} of the reference.")
    lost, gained = int(np.sum(reference & ~quantized)), int(np.sum(~reference & quantized))
    return Flips(lost=lost, gained=gained, questions=len(reference))


def tango(observed: Flips) -> Interval:
    """Score interval of the drop as a fraction (Tango 1998): has a width even where nothing flipped."""
    z = normal_quantile(1 - ALPHA)
    low = _root(lambda delta: _tango_score(observed, delta) - z, -1.0, observed.drop)
    high = _root(lambda delta: _tango_score(observed, delta) + z, observed.drop, 1.0)
    return Interval(estimate=observed.drop, low=low, high=high)


def _tango_score(observed: Flips, delta: float) -> float:
    """Tango's T(Δ₀), decreasing in Δ₀; its variance uses the restricted maximum likelihood estimate of p₂₁."""
    n, b, c = observed.questions, observed.lost, observed.gained
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    p = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    variance = n * (2 * p + delta * (1 - delta))
    gap = b - c - n * delta
    if variance <= 0:  # only at Δ₀ = 0 without flips, or at the ends, where the score is 0 or infinite
        return 0.0 if gap == 0 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


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


def unpaired_z(first: float, second: float, questions: int) -> tuple[float, float]:
    """z and two-sided p of the pooled two-proportion test, for comparison with published work only."""
    from scipy.stats import norm

    pooled = (first + second) / 2
    standard_error = math.sqrt(2 * pooled * (1 - pooled) / questions)
    z = abs(first - second) / standard_error if standard_error else 0.0
    return z, float(2 * norm.sf(z))


def detectable_drop(flip_rate: float, questions: int) -> float:
    """The smallest drop that this many paired questions find with power `POWER`, as a fraction."""
    return (normal_quantile(1 - ALPHA) + normal_quantile(POWER)) * math.sqrt(flip_rate / questions)


def detectable_drop_unpaired(accuracy: float, questions: int) -> float:
    """The same for two separate samples of this accuracy, two-sided 5 % as published tables have it."""
    factor = normal_quantile(1 - ALPHA / 2) + normal_quantile(POWER)
    return factor * math.sqrt(2 * accuracy * (1 - accuracy) / questions)


def rate_ratio(
    reference: "list[tuple[int, float]]", quantized: "list[tuple[int, float]]"
) -> tuple[Interval | None, int]:
    """Interval of the speed ratio from (prompt, rate) pairs, runs as repeats within prompts, and how many prompts.

    The mean over prompts of the difference of mean log rates, Student t with prompts − 1 degrees of freedom. None
    with fewer than two common prompts.
    """
    logs = [
        {prompt: np.mean([math.log(rate) for p, rate in runs if p == prompt]) for prompt, _ in runs}
        for runs in (reference, quantized)
    ]
    differences = np.array([logs[1][prompt] - logs[0][prompt] for prompt in sorted(logs[0].keys() & logs[1].keys())])
    if len(differences) < 2:
        return None, len(differences)
    standard_error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    half_width = student_quantile(len(differences) - 1) * standard_error
    return exponential(_symmetric(float(differences.mean()), half_width)), len(differences)


def items_needed(items: int, half_width: float, gap: float) -> int | None:
    """How many items would shrink an interval of this half width to the gap between estimate and limit.

    By the square-root law; None where the estimate lies on the limit and no number would do.
    """
    return math.ceil(items * (half_width / abs(gap)) ** 2) if gap and math.isfinite(half_width / gap) else None
