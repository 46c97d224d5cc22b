"""Looking several times at growing data without raising the chance of a wrong verdict.

Source: Lan and DeMets 1983, "Discrete Sequential Boundaries for Clinical Trials", with a spending function of O'Brien
and Fleming's type: α(t) = 2 − 2 Φ(z / √t) with z the upper α/2 quantile, of which next to nothing is spent on early
looks. Boundaries follow by recursive integration (Armitage, McPherson and Rowe 1969): the statistic times √t is a sum
of independent normal increments. A boundary is handed out as the one-sided error probability that a single look may
have, so that every interval (Student's, Tango's) can be asked for it. Pass and fail have a boundary each, and spend an
α each.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOWEST = -12.0  # standard deviations below which nothing lies
POINTS = 513  # of Simpson's rule
Density = NDArray[np.float64]


def spent(fraction: float, alpha: float) -> float:
    """How much of α may be used up when a share of the planned information is there; all of it from 1 on."""
    from scipy.stats import norm

    return alpha if fraction >= 1 else float(2 * norm.sf(norm.isf(alpha / 2) / math.sqrt(fraction)))


def levels(fractions: Sequence[float], alpha: float, *, ended: bool = False) -> list[float]:
    """The one-sided error probability of each look's own test, for looks at these shares of the planned information.

    `ended`: the last look has all data that there will be, and spends what is left of α. Raises ValueError unless the
    fractions are positive and increasing.
    """
    if not fractions or fractions[0] <= 0 or any(b <= a for a, b in itertools.pairwise(fractions)):
        raise ValueError(f"Fractions of information have to be positive and increasing, not {list(fractions)}.")
    from scipy.stats import norm

    allowed = [spent(fraction, alpha) for fraction in fractions]
    if ended:
        allowed[-1] = alpha
    path, found, used = _Path(), [], 0.0
    for fraction, total in zip(fractions, allowed, strict=True):
        bound = path.bound(fraction, total - used)
        path.stay_below(bound, fraction)
        found.append(float(norm.sf(bound / math.sqrt(fraction))))
        used = total
    return found


@dataclass(slots=True)
class _Path:
    """The sum of increments of runs that no look has stopped yet: its density on a grid that ends at the last bound."""

    fraction: float = 0.0
    grid: Density | None = None
    weights: Density | None = None  # density × Simpson's weights

    def crossing(self, bound: float, fraction: float) -> float:
        """The probability to be stopped for the first time now, by a sum above `bound`."""
        from scipy.stats import norm

        if self.grid is None or self.weights is None:
            return float(norm.sf(bound / math.sqrt(fraction)))
        return float(self.weights @ norm.sf((bound - self.grid) / math.sqrt(fraction - self.fraction)))

    def bound(self, fraction: float, probability: float) -> float:
        """The sum above which runs are stopped with this probability."""
        low, high = LOWEST, 60.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if self.crossing(middle, fraction) > probability else (low, middle)
        return (low + high) / 2

    def stay_below(self, bound: float, fraction: float) -> None:
        """Carry the density on to the next look."""
        from scipy.stats import norm

        lowest = LOWEST * math.sqrt(fraction)
        grid = np.linspace(lowest, min(bound, -lowest), POINTS)
        if self.grid is None or self.weights is None:
            density = norm.pdf(grid, scale=math.sqrt(fraction))
        else:
            step = math.sqrt(fraction - self.fraction)
            density = norm.pdf(grid[:, None] - self.grid, scale=step) @ self.weights
        self.fraction, self.grid = fraction, grid
        self.weights = density * _simpson(grid)


def _simpson(grid: Density) -> Density:
    weights = np.ones(len(grid))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    scaled: Density = weights * (grid[1] - grid[0]) / 3
    return scaled
