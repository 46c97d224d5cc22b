"""Looking several times at growing data without raising the chance of a wrong verdict.

Source: Lan and DeMets 1983, "Discrete Sequential Boundaries for Clinical Trials", with a spending function of O'Brien
and Fleming's type: α(t) = 2 − 2 Φ(z / √t) with z the upper α/2 quantile, of which next to nothing is spent on early
looks. Boundaries follow by recursive integration (Armitage, McPherson and Rowe 1969): the statistic times √t is a sum
of independent normal increments. A boundary is handed out as the one-sided error probability that a single look may
have, so that every interval (Student's, Tango's) can be asked for it. Pass and fail have a boundary each, and spend an
α each.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = -12.0, 36.0  # standard deviations: nothing lies below, and no look decides above
TINY = 1e-280  # the least probability that is told from none
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
    return list(_levels(tuple(fractions), alpha, ended))


@functools.lru_cache(maxsize=1024)
def _levels(fractions: tuple[float, ...], alpha: float, ended: bool) -> tuple[float, ...]:
    from scipy.special import ndtr

    allowed = [spent(fraction, alpha) for fraction in fractions]
    if ended:
        allowed[-1] = alpha
    if len(allowed) == 1:
        return (allowed[0],)
    path, found, used = _Path(), [], 0.0
    for fraction, total in zip(fractions, allowed, strict=True):
        bound = path.bound(fraction, total - used)
        path.stay_below(bound, fraction)
        found.append(float(ndtr(-bound / math.sqrt(fraction))))
        used = total
    return tuple(found)


@dataclass(slots=True)
class _Path:
    """The sum of increments of runs that no look has stopped yet: its density on a grid that ends at the last bound."""

    fraction: float = 0.0
    grid: Density | None = None
    weights: Density | None = None  # density × Simpson's weights

    def crossing(self, bound: float, fraction: float) -> float:
        """The probability to be stopped for the first time now, by a sum above `bound`."""
        from scipy.special import ndtr

        if self.grid is None or self.weights is None:
            return float(ndtr(-bound / math.sqrt(fraction)))
        return float(self.weights @ ndtr((self.grid - bound) / math.sqrt(fraction - self.fraction)))

    def bound(self, fraction: float, probability: float) -> float:
        """The sum above which runs are stopped with this probability, or the highest there is where it is tiny."""
        from scipy.optimize import brentq

        def excess(bound: float) -> float:
            return math.log(max(self.crossing(bound, fraction), TINY) / max(probability, TINY))

        if excess(HIGHEST) >= 0:
            return HIGHEST
        return float(brentq(excess, LOWEST, HIGHEST, xtol=1e-10))

    def stay_below(self, bound: float, fraction: float) -> None:
        """Carry the density on to the next look."""
        lowest = LOWEST * math.sqrt(fraction)
        grid = np.linspace(lowest, min(bound, -lowest), POINTS)
        if self.grid is None or self.weights is None:
            density = _normal(grid, math.sqrt(fraction))
        else:
            step = math.sqrt(fraction - self.fraction)
            density = _normal(grid[:, None] - self.grid, step) @ self.weights
        self.fraction, self.grid = fraction, grid
        self.weights = density * _simpson(grid)


def _normal(values: Density, deviation: float) -> Density:
    density: Density = np.exp(-0.5 * (values / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
    return density


def _simpson(grid: Density) -> Density:
    weights = np.ones(len(grid))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    scaled: Density = weights * (grid[1] - grid[0]) / 3
    return scaled
