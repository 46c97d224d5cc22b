"""Means of dependent series and perplexities, as estimates. Definitions: docs/method.md.

Nothing here knows a model or a threshold. Tokens of a text depend on each other. Where windows were drawn from all of a
text, the error of a mean comes from the differences between them: they are independent, however far dependence within
the text reaches, and what they say is of the whole text. Where tokens follow each other, it comes from sums over
contiguous blocks, long enough for the dependence that the series itself shows; what is alike over longer stretches than
were read cannot be seen there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.stats.estimates import NO_SPREAD, Estimate, Exact, ExpDifference, Interval, Ratio, Student
from pytest_quantbench.stats.window_sampling import Drawn

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


def mean(values: NDArray[np.floating], cut: Blocks | Drawn | None = None) -> Student | Exact | None:
    """The mean of an (n,) series with the error that its block or window sums show, units − 1 degrees of freedom.

    Exact where the windows are all that the text has. None with fewer than two units or without any spread, which say
    nothing of the error. Raises ComparisonError for NaN.
    """
    if not np.isfinite(values).all():
        raise ComparisonError("A series with NaN or infinite values has no mean.")
    series = values.astype(np.float64)
    cut = cut or blocks_for(series)
    if isinstance(cut, Drawn) and cut.whole:
        return Exact(value=float(series.mean()))
    units = len(_starts(series, cut))
    if units < 2:
        return None
    error = math.sqrt(_covariance(series, series, cut))
    if error <= NO_SPREAD * float(np.abs(series).max()):
        return None
    return Student(value=float(series.mean()), standard_error=error, degrees=units - 1)


def _starts(series: NDArray[np.float64], cut: Blocks | Drawn) -> NDArray[np.int64]:
    """Where the windows begin, or the blocks, of which the last takes the remainder."""
    if isinstance(cut, Drawn):
        return np.cumsum(cut.counts) - cut.counts
    return np.arange(len(series) // cut.tokens) * cut.tokens


def _covariance(first: NDArray[np.float64], second: NDArray[np.float64], cut: Blocks | Drawn) -> float:
    """Of the means of two (n,) series, from the sums over their windows or blocks, as a ratio of sums to lengths.

    Windows that are a good share of the text's leave less to chance by the finite population correction (Cochran 1977,
    chapter 2). That they are spread over the text, which makes them more alike than chance would, is not counted.
    Blocks of b values miss the dependence across their ends, the share τ / (2 b) of the variance: it is added.
    """
    starts = _starts(first, cut)
    sums = [np.add.reduceat(series - series.mean(), starts) for series in (first, second)]
    missed = 0.0 if isinstance(cut, Drawn) else min(cut.correlation_tokens / (2 * cut.tokens), 0.5)
    correction = cut.finite if isinstance(cut, Drawn) else 1 / (1 - missed)
    return len(starts) / (len(starts) - 1) * float(sums[0] @ sums[1]) * correction / len(first) ** 2


def perplexity(nll_nats: NDArray[np.floating]) -> float | None:
    """exp of the mean negative log-likelihood; None where that overflows a float64 (above 709 nats per token)."""
    nats = float(np.mean(nll_nats, dtype=np.float64))
    return math.exp(nats) if nats < 709 else None


def unigram_nats(tokens: NDArray[np.integer], vocabulary: int) -> NDArray[np.float64]:
    """(n,) loss of each of the n tokens of a text, of a vocabulary of so many, under its frequency in the rest of it.

    A token that is left out takes its count with it. What the others never had gets, evenly over the vocabulary, the
    share of the tokens that occur once (Good and Turing's estimate of how often something new comes).
    """
    counts = np.bincount(tokens, minlength=vocabulary)
    unseen = max(1, int((counts == 1).sum())) / len(tokens)
    probabilities = (1 - unseen) * (counts - 1) / max(1, len(tokens) - 1) + unseen / vocabulary
    losses: NDArray[np.float64] = -np.log(probabilities[tokens])
    return losses


def perplexity_delta(
    reference_nats: NDArray[np.floating], quantized_nats: NDArray[np.floating], drawn: Drawn | None = None
) -> tuple[Estimate | None, Blocks | Drawn]:
    """PPL_q − PPL_r on the same tokens, and what it was cut into: the windows that were drawn, or for tokens in a row
    blocks, those of the influence of each token on the delta.

    None as in `mean`, or where a perplexity overflows. Raises ComparisonError on other lengths or NaN.
    """
    if len(reference_nats) != len(quantized_nats):
        raise ComparisonError(f"{len(quantized_nats)} quantized tokens against {len(reference_nats)} of the reference.")
    ppl_r, ppl_q = perplexity(reference_nats), perplexity(quantized_nats)
    if ppl_r is None or ppl_q is None:
        return None, drawn or Blocks()
    before, after = reference_nats.astype(np.float64), quantized_nats.astype(np.float64)
    influence = ppl_q * (after - after.mean()) - ppl_r * (before - before.mean())
    cut = drawn or blocks_for(influence)
    found = mean(influence + (ppl_q - ppl_r), cut)
    if found is None or isinstance(found, Exact):
        return found and Exact(value=ppl_q - ppl_r), cut
    estimate = ExpDifference(
        after=float(after.mean()),
        before=float(before.mean()),
        covariance=(
            _covariance(after, after, cut),
            _covariance(after, before, cut),
            _covariance(before, before, cut),
        ),
        degrees=found.degrees,
    )
    return estimate, cut


def distribution(
    values: NDArray[np.floating], drawn: Drawn | None = None
) -> tuple[Student | Exact | None, Mapping[float, float]]:
    """Mean with its error, and the percentiles 50, 90, 99 and 99.9, of an (n,) series such as KL divergences."""
    found = np.percentile(values.astype(np.float64), PERCENTILES)
    return mean(values, drawn), MappingProxyType(dict(zip(PERCENTILES, map(float, found), strict=True)))


def mean_of_units(values: Sequence[float], units: Sequence[int]) -> Student | None:
    """The mean over units, such as prompts, of the mean of each one's values, units − 1 degrees of freedom. Its error
    holds for other units like these. None with fewer than two units, or where all are alike.
    """
    of = np.array(units)
    means = np.array([np.mean(np.array(values, np.float64)[of == unit]) for unit in np.unique(of)])
    error = float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    if error <= NO_SPREAD * float(np.abs(means).max()):
        return None
    return Student(value=float(means.mean()), standard_error=error, degrees=len(means) - 1)


def quotient(above: Sequence[float], units: Sequence[int], below: Sequence[float]) -> Ratio:
    """The mean of values, of these units, over the mean of others that are independent of them: relative errors of both
    add up in squares, with the degrees of freedom of the one that has fewer. Without an error where neither has any.
    """
    value = math.log(float(np.mean(above)) / float(np.mean(below)))
    means = mean_of_units(above, units), mean_of_units(below, range(len(below)))
    known = [mean for mean in means if mean is not None]
    if not known:
        return Ratio(logarithm=Exact(value=value))
    error = math.hypot(*(mean.standard_error / mean.value for mean in known))
    return Ratio(logarithm=Student(value=value, standard_error=error, degrees=min(mean.degrees for mean in known)))


def items_needed(items: int, interval: Interval, limit: float, whole: int | None = None) -> int | None:
    """How many items would shrink an interval until it ends at the limit, at least one more than there are.

    By the square-root law, for the end on the limit's side; None where the estimate lies so near the limit that no
    number would do. Of `whole` items that there are at all, never more than those.
    """
    gap = abs(interval.estimate - limit)
    reach = interval.high - interval.estimate if limit > interval.estimate else interval.estimate - interval.low
    if whole is not None:  # the square of the error falls as 1 / items − 1 / whole
        wanted = 1 / whole + (1 / items - 1 / whole) * (gap / reach) ** 2 if reach else 1 / items
        return min(max(items + 1, math.ceil(1 / wanted)), whole)
    return max(items + 1, math.ceil(items * (reach / gap) ** 2)) if reach < HOPELESS * gap else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of a family (Holm 1979), in the order given: each is compared with α itself."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
