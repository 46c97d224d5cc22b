"""How a sample's values are distributed far out: percentiles, as dense in the tail as the sample is."""

import numpy as np
from numpy.typing import NDArray

STEPS = 32
MARKED = (50.0, 90.0, 95.0, 99.0, 99.9)


def curve(values: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(steps,) shares of the values that are larger, falling by equal factors from 1 to that of a single one of them,
    and (steps,) the values that they are larger than. Raises ValueError for no values.
    """
    if values.size == 0:
        raise ValueError("There are no values.")
    shares = np.geomspace(1.0, 1 / values.size, STEPS)
    return shares, _at(values, shares)


def marked(values: NDArray[np.floating]) -> dict[float, float]:
    """The percentiles that are usually named, as far as at least one value is beyond them."""
    known = [percent for percent in MARKED if values.size * (100 - percent) >= 100 * (1 - 1e-9)]
    found = _at(values, 1 - np.array(known) / 100)
    return dict(zip(known, map(float, found), strict=True))


def _at(values: NDArray[np.floating], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.quantile(values.astype(np.float64).ravel(), 1 - shares)
    return found
