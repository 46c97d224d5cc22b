"""Which windows of a text are drawn: seeded, without replacement, spread over the text at every size of the sample.

The order is a scrambled van der Corput sequence (Owen 1995): the first two windows come from different halves, the
first four from different quarters, and so on, each at random within its part. A sample that grows along this order
keeps what it has. The parts are turned round the text by a random number of windows, so that every window is as likely
as any other to be among the first n.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


def order(population: int, seed: int) -> Places:
    """(population,) numbers of windows, in the order in which they are drawn."""
    rng = np.random.default_rng([seed, population])
    bits = max(1, int(population - 1).bit_length())
    turned = (np.arange(population) + rng.integers(population)) % population
    parts = turned * 2**bits // population  # different for different windows, since there are as many parts or more
    return np.argsort(_scrambled(parts, bits, rng)).astype(np.int64)


def _scrambled(parts: Places, bits: int, rng: np.random.Generator) -> Places:
    """Numbers of `bits` bits read backwards, each bit flipped or not as the bits above it say."""
    keys = np.zeros(len(parts), np.int64)
    for bit in range(bits):
        above = parts >> (bits - bit)
        flips = rng.integers(2, size=2**bit)
        keys |= ((parts >> (bits - 1 - bit) & 1) ^ flips[above]) << bit
    return keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Windows drawn from the `population` that a text has, in the order of the draw.

    `begins` (windows,) are the places in the text of each window's first scored token, `counts` (windows,) how many it
    scores: `tokens`, but for the text's last window, and its first where nothing stands in front of a token.
    """

    population: int
    tokens: int
    begins: Places
    counts: Places

    @property
    def whole(self) -> bool:
        """Whether these are all windows of the text: nothing is left to chance."""
        return len(self.counts) == self.population

    @property
    def finite(self) -> float:
        """The finite population correction of a variance: 1 − n / N."""
        return 1 - len(self.counts) / self.population

    def first(self, windows: int) -> "Drawn":
        """The first so many."""
        return Drawn(
            population=self.population,
            tokens=self.tokens,
            begins=self.begins[:windows],
            counts=self.counts[:windows],
        )

    def holding(self, scored: int) -> "Drawn":
        """The first windows that together score so many tokens. Raises ValueError where that would cut one."""
        ends = np.cumsum(self.counts)
        windows = int(np.searchsorted(ends, scored)) + 1
        if scored and (windows > len(ends) or ends[windows - 1] != scored):
            raise ValueError(f"{scored} tokens are no whole number of windows.")
        return self.first(windows if scored else 0)

    def scored(self) -> Places:
        """The places in the text of all scored tokens, window by window."""
        return np.concatenate([np.arange(b, b + n) for b, n in zip(self.begins, self.counts, strict=True)])
