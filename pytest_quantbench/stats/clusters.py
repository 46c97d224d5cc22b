"""Answers that depend on each other: questions on one passage, of one subject, are lost and gained together.

What n such questions say is what n / D independent ones would, with the design effect D (Kish 1965, "Survey Sampling",
chapter 5). It is estimated from the sums over clusters and never below 1; where few answers flipped such an estimate
says little and is small by accident when the flips are, so that `PRIOR_FLIPS` flips of the correlation
`PRIOR_CORRELATION` are added to those that were seen. Student's t then allows for the number of clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRIOR_FLIPS, PRIOR_CORRELATION = 2.0, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Which of n questions belong together: `labels` (n,) are numbers from 0 on, `sizes` (clusters,) their counts."""

    labels: NDArray[np.intp]
    sizes: NDArray[np.intp]

    @property
    def single(self) -> bool:
        """Whether every question stands alone."""
        return len(self.sizes) == len(self.labels)

    @property
    def degrees(self) -> float:
        """Degrees of freedom: one less than the number of equally large clusters that would say as much (Kish's
        effective number); clusters − 1 where they are equally large.
        """
        return float(len(self.labels) ** 2 / np.square(self.sizes).sum()) - 1

    @property
    def _mean_size(self) -> float:
        """Of the cluster that a question belongs to."""
        return float(np.square(self.sizes).sum() / len(self.labels))

    def effect(self, values: NDArray[np.floating], prior: float = 0.0) -> float:
        """The design effect on the mean of (n,) values: the variance of their sum over that of as many independent
        ones, at least 1. `prior`: so many squared deviations of the assumed correlation are added.
        """
        if self.single or len(self.sizes) < 2:
            return 1.0
        deviations = values - values.mean()
        sums = np.bincount(self.labels, deviations)
        count = len(sums)
        assumed = 1 + (self._mean_size - 1) * PRIOR_CORRELATION
        together = count / (count - 1) * float(sums @ sums) + prior * assumed
        alone = float(deviations @ deviations) + prior
        return max(1.0, together / alone) if alone > 0 else 1.0

    def correlation(self, values: NDArray[np.floating]) -> float | None:
        """The mean correlation of two (n,) values of one cluster, over all pairs; None without pairs or spread."""
        deviations = values - values.mean()
        pairs, spread = float(np.square(self.sizes).sum() - len(values)), float(deviations @ deviations)
        if pairs == 0 or spread == 0:
            return None
        sums = np.bincount(self.labels, deviations)
        return (float(sums @ sums) - spread) / pairs / (spread / len(values))


def clusters_of(names: Sequence[str], questions: int) -> Clusters:
    """Clusters from a name for every question; no names at all: every question stands alone."""
    if len(names) != questions:
        return Clusters(labels=np.arange(questions), sizes=np.ones(questions, np.intp))
    _, labels, sizes = np.unique(np.array(names), return_inverse=True, return_counts=True)
    return Clusters(labels=labels, sizes=sizes)
