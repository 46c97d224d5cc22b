"""Means of dependent series, perplexities and speed ratios, as estimates. Definitions: docs/method.md.

Nothing here knows a model or a threshold. Tokens of a text depend on each other, so the error of a mean comes from sums
over contiguous blocks, long enough for the dependence that the series itself shows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.estimates import NO_SPREAD, ExpDifference, Ratio, Student
from pytest_quantbench.verdict import Interval

BLOCK_TOKENS = 64  # the least
FEWEST_BLOCKS = 8  # longer blocks are not chosen where fewer would be left
HOPELESS = 1e3  # an interval so many times wider than what is to be told would need a million times the data
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """How a series is cut: `tokens` to a block, for values of which so many in a row count as one (1: independent)."""

    tokens: int = BLOCK_TOKENS
    correlation_tokens: float = 1.0


def correlation_tokens(series: NDArray[np.floating]) -> float:
    """The integrated autocorrelation time of an (n,) series, at least 1: the initial positive sequence of Geyer 1992.

    Sums of two neighbouring autocorrelations are added up until one is not positive.
    """
    centred = series.astype(np.float64) - np.mean(series, dtype=np.float64)
    spectrum = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
    covariance = np.fft.irfft(spectrum)[: len(centred) // 2 * 2]
    if covariance[0] <= 0:
        return 1.0
    pairs = covariance.reshape(-1, 2).sum(1) / covariance[0]
    stop = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(pairs)
    return max(1.0, 2 * float(pairs[:stop].sum()) - 1)


def blocks_for(series: NDArray[np.floating]) -> Blocks:
    """Blocks of at least 64 and four correlation times, as far as eight of them are left."""
    time = correlation_tokens(series)
    wanted = BLOCK_TOKENS * math.ceil(4 * time / BLOCK_TOKENS)
    return Blocks(tokens=max(BLOCK_TOKENS, min(wanted, len(series) // FEWEST_BLOCKS)), correlation_tokens=time)


def mean(values: NDArray[np.floating], blocks: Blocks | None = None) -> Student | None:
    """The mean of an (n,) series with the error that its block sums show, blocks − 1 degrees of freedom.

    None with fewer than two blocks or without any spread, which say nothing of the error. Raises ComparisonError for
    NaN.
    """
    if not np.isfinite(values).all():
        raise ComparisonError("A series with NaN or infinite values has no mean.")
    series = values.astype(np.float64)
    cut = blocks or blocks_for(series)
    if len(series) // cut.tokens < 2:
        return None
    error = math.sqrt(_covariance(series, series, cut))
    if error <= NO_SPREAD * float(np.abs(series).max()):
        return None
    return Student(value=float(series.mean()), standard_error=error, degrees=len(series) // cut.tokens - 1)


def _covariance(first: NDArray[np.float64], second: NDArray[np.float64], cut: Blocks) -> float:
    """Of the means of two (n,) series, from the sums over their blocks; the last block takes the remainder.

    Blocks of b values miss the dependence across their ends, the share τ / (2 b) of the variance: it is added.
    """
    count = len(first) // cut.tokens
    starts = np.arange(count) * cut.tokens
    sums = [np.add.reduceat(series - series.mean(), starts) for series in (first, second)]
    missed = min(cut.correlation_tokens / (2 * cut.tokens), 0.5)
    return count / (count - 1) * float(sums[0] @ sums[1]) / (1 - missed) / len(first) ** 2


def perplexity(nll_nats: NDArray[np.floating]) -> float | None:
    """exp of the mean negative log-likelihood; None where that overflows a float64 (above 709 nats per token)."""
    nats = float(np.mean(nll_nats, dtype=np.float64))
    return math.exp(nats) if nats < 709 else None


def perplexity_delta(
    reference_nats: NDArray[np.floating], quantized_nats: NDArray[np.floating]
) -> tuple[ExpDifference | None, Blocks]:
    """PPL_q − PPL_r on the same tokens, and the blocks it took: those of the influence of each token on the delta.

    None as in `mean`, or where a perplexity overflows. Raises ComparisonError on other lengths or NaN.
    """
    if len(reference_nats) != len(quantized_nats):
        raise ComparisonError(f"{len(quantized_nats)} quantized tokens against {len(reference_nats)} of the reference.")
    ppl_r, ppl_q = perplexity(reference_nats), perplexity(quantized_nats)
    if ppl_r is None or ppl_q is None:
        return None, Blocks()
    before, after = reference_nats.astype(np.float64), quantized_nats.astype(np.float64)
    influence = ppl_q * (after - after.mean()) - ppl_r * (before - before.mean())
    cut = blocks_for(influence)
    if mean(influence + (ppl_q - ppl_r), cut) is None:
        return None, cut
    estimate = ExpDifference(
        after=float(after.mean()),
        before=float(before.mean()),
        covariance=(
            _covariance(after, after, cut),
            _covariance(after, before, cut),
            _covariance(before, before, cut),
        ),
        degrees=len(after) // cut.tokens - 1,
    )
    return estimate, cut


def distribution(values: NDArray[np.floating]) -> tuple[Student | None, Mapping[float, float]]:
    """Mean with its error, and the percentiles 50, 90, 99 and 99.9, of an (n,) series such as KL divergences."""
    found = np.percentile(values.astype(np.float64), PERCENTILES)
    return mean(values), MappingProxyType(dict(zip(PERCENTILES, map(float, found), strict=True)))


def rate_ratio(reference: Sequence[tuple[int, float]], quantized: Sequence[tuple[int, float]]) -> Ratio | None:
    """The speed ratio from (prompt, rate) pairs, runs as repeats within prompts.

    The mean over prompts of the difference of mean log rates, prompts − 1 degrees of freedom. None with fewer than two
    common prompts, or if all differ by the same factor.
    """
    logs = [
        {prompt: np.mean([math.log(rate) for p, rate in runs if p == prompt]) for prompt, _ in runs}
        for runs in (reference, quantized)
    ]
    differences = np.array([logs[1][prompt] - logs[0][prompt] for prompt in sorted(logs[0].keys() & logs[1].keys())])
    if len(differences) < 2:
        return None
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if error <= NO_SPREAD:
        return None
    return Ratio(logarithm=Student(value=float(differences.mean()), standard_error=error, degrees=len(differences) - 1))


def items_needed(items: int, interval: Interval, limit: float) -> int | None:
    """How many items would shrink an interval until it ends at the limit, at least one more than there are.

    By the square-root law, for the end on the limit's side; None where the estimate lies so near the limit that no
    number would do.
    """
    gap = abs(interval.estimate - limit)
    reach = interval.high - interval.estimate if limit > interval.estimate else interval.estimate - interval.low
    return max(items + 1, math.ceil(items * (reach / gap) ** 2)) if reach < HOPELESS * gap else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of a family (Holm 1979), in the order given: each is compared with α itself."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
