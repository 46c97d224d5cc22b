"""What measures ask of logits: losses, the likeliest tokens, distributions to keep, divergences from kept ones.

The numpy form here is the definition. It is what runs on a CPU, where MLX's own sum of exponentials is off by up to
3e-4 nats over 150,000 words and takes fifteen times as long; on an accelerator the logits stay where they are (see
mlx/logits), and a test holds the two to each other.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines import divergence
from pytest_quantbench.engines.divergence import Distributions, Fidelity, Floats, joined

LOGITS_AT_ONCE = 7 * 2**20  # float32 values that measures ask a walk for together: 28 MB, which C libraries reuse
BLOCK = 1024  # float32 numbers that are added up in float32; their sums in float64
AT_ONCE = 2**17  # float32 values that lie in a core's own cache with what is made of them
MARGIN = 1e-3  # beyond the rounding of a difference of two logits
Doubles = NDArray[np.float64]
Tokens = NDArray[np.integer]


class Logits(Protocol):
    """(n, vocabulary) logits of n positions, wherever they lie."""

    def nll(self, tokens: Tokens) -> Doubles:
        """(n,) negative log-likelihoods in nats of the tokens that follow, one at each position."""

    def likeliest(self) -> Tokens:
        """(n,) ids of the likeliest tokens; of several equal ones the first."""

    def compact(self, place: int) -> Distributions:
        """What is kept of the distributions; `place` is the text's number of the first position."""

    def against(self, kept: Distributions) -> Fidelity:
        """The divergence KL(kept ‖ these) at each position."""


class HostLogits:
    """Float32 logits in numpy. A few rows at a time, so that what is made of them stays in the cache.

    Logits that are no numbers give losses that are none, and no warning: the measures look for them. `cumulate` is
    numpy's sum along a row, or another library's that is faster.
    """

    cumulate: divergence.Cumulate = staticmethod(divergence.cumulated)

    def __init__(self, rows: Floats) -> None:
        self._rows = rows

    def __len__(self) -> int:
        """How many positions there are."""
        return len(self._rows)

    @cached_property
    def log_sums(self) -> Doubles:
        """(n,) logarithms of the sums of exponentials, right to 1e-6."""
        return log_sum_exp(self._rows)

    def nll(self, tokens: Tokens) -> Doubles:
        return self.log_sums - self._rows[np.arange(len(self._rows)), tokens]

    def likeliest(self) -> Tokens:
        found: Tokens = self._rows.argmax(-1)
        return found

    def compact(self, place: int) -> Distributions:
        whole = self._rows.shape[1] <= divergence.WHOLE
        parts = []
        for part in _few(*self._rows.shape):
            rows, sums = self._rows[part], self.log_sums[part]
            with np.errstate(invalid="ignore", over="ignore"):
                kept = (
                    divergence.kept_whole(rows, sums)
                    if whole
                    else divergence.kept_sampled(rows, sums, place + part.start, self.cumulate)
                )
            parts.append(kept)
        return joined(parts)

    def against(self, kept: Distributions) -> Fidelity:
        likeliest, parts = self.likeliest(), []
        for part in _few(*kept.log_probabilities.shape):
            some = kept.part(part.start, part.stop)
            rows = self._rows[part]
            chosen = np.take_along_axis(rows, some.tokens.astype(np.int64), axis=-1) if some.tokens.size else rows
            above = self._above(part, some.threshold) if some.tokens.size else np.zeros(len(rows))
            parts.append(compared(some, chosen - self.log_sums[part, None], above, likeliest[part]))
        return joined(parts)

    def _above(self, part: slice, thresholds: Floats) -> Doubles:
        """(n,) masses of the tokens whose log-probabilities are above a threshold."""
        found = np.zeros(len(thresholds))
        rows = zip(self._rows[part], self.log_sums[part], thresholds, strict=True)
        for place, (row, log_sum, threshold) in enumerate(rows):
            high = (
                row[row > threshold + log_sum - MARGIN] - log_sum
            )  # as the kept tokens' are computed, to the last bit
            found[place] = np.exp(high[high > threshold]).sum()
        return found


def compared(kept: Distributions, theirs: Doubles, above: Doubles, likeliest: Tokens) -> Fidelity:
    """`theirs`: the other model's natural log-probabilities of the tokens that are kept; `above`: its mass on those
    above the threshold.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        kl, error = divergence.divergence(kept, theirs, above)
    return Fidelity(
        kl_nats=kl.astype(np.float32),
        error_nats=error.astype(np.float32),
        same_top=likeliest == kept.likeliest,
        likeliest=likeliest.astype(np.uint32),
    )


def log_sum_exp(rows: Floats) -> Doubles:
    """log Σ exp over the last axis of (n, vocabulary) float32, the sums in float64."""
    found = np.empty(len(rows))
    starts = np.arange(0, rows.shape[1], BLOCK)
    with np.errstate(invalid="ignore", over="ignore"):
        for part in _few(*rows.shape):
            largest = rows[part].max(-1, keepdims=True)
            powers = rows[part] - largest
            np.exp(powers, out=powers)
            sums = np.add.reduceat(powers, starts, axis=1).sum(-1, dtype=np.float64)
            found[part] = largest[:, 0] + np.log(sums)
    return found


def _few(count: int, width: int) -> Iterator[slice]:
    """Rows that are taken together."""
    together = max(1, AT_ONCE // width)
    return (slice(start, min(start + together, count)) for start in range(0, count, together))
