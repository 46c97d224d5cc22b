"""How a handful of repeats lie: what a table tells of them beside their mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean, standard deviation (of the values themselves, n − 1; null of one alone), least and most of n values."""

    mean: float
    std: float | None
    least: float
    most: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        found = np.array(values, np.float64)
        std = float(found.std(ddof=1)) if len(found) > 1 else None
        return cls(mean=float(found.mean()), std=std, least=float(found.min()), most=float(found.max()), n=len(found))
