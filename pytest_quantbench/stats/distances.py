"""How far two ways of computing the same numbers are apart: exact distances, in which there is no chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

RARE = 99.9  # percent of distances that are below the one that is told beside the largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Absolute differences of `count` pairs: their mean, the one that 99.9 % of them do not exceed, the largest."""

    count: int
    mean: float
    rare: float
    largest: float

    def within(self, limit: float) -> bool:
        """Whether none exceeds a limit; so it is where there are none."""
        return not self.largest > limit


def distances(one: ArrayLike, other: ArrayLike, per: ArrayLike = 1.0) -> Distances:
    """Of two arrays of the same length, each difference divided by `per`, such as the tokens that a sum is over.

    Raises ValueError for values that are no numbers: no distance is between these.
    """
    apart = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)) / np.asarray(per, np.float64)
    if not np.isfinite(apart).all():
        raise ValueError("a difference is no number")
    if not apart.size:
        return Distances(count=0, mean=0.0, rare=0.0, largest=0.0)
    return Distances(
        count=apart.size,
        mean=float(apart.mean()),
        rare=float(np.percentile(apart, RARE, method="higher")),
        largest=float(apart.max()),
    )
