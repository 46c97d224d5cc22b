"""The best evenly spaced grid for each of many short groups of weights: the inner search of the K-quants.

A group's weights become codes × scale − minimum, or codes × scale where the format has no minimums; the squared error
counts by each weight's importance. No formula gives the best grid, because the codes jump as it moves. So each group
starts from several grids, is rounded and fitted by least squares in turn, and keeps the best grid that it met.

Groups are columns: values are (weights of a group, groups) and sums over a group add long rows.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ROUNDS = 2  # of rounding and least squares from each start
SOUND = np.float32(1e-5)  # a determinant below this share of its terms is rounding noise


def inverse(values: Floats) -> Floats:
    """1 / values, and 0 for 0."""
    return np.divide(1, values, out=np.zeros_like(values), where=np.abs(values) > 1e-37)


class Grids:
    """Groups under search; `scales` and `minimums`, (groups,) each, are the best so far, `codes` of the last rounding.

    Values should be of a size whose squares float32 can hold.
    """

    def __init__(self, values: Floats, importance: Floats, codes: range, minimums: bool) -> None:
        self.values, self.importance, self.affine = values, importance, minimums
        self.lowest, self.highest = np.float32(codes[0]), np.float32(codes[-1])
        self.total, self.moment = importance.sum(0), np.einsum("ig,ig->g", importance, values)
        self.codes, self._rest = np.empty_like(values), np.empty_like(values)
        self.scales, self.minimums, self._gains = (np.zeros_like(self.total) for _ in range(3))

    def search(self, starts: tuple[tuple[float, float], ...]) -> None:
        """Start from grids `narrower` times than the group's range, whose low end lies `where` in what is left over.

        Without minimums the range is from the weight of largest magnitude, at the lowest code, to its opposite.
        """
        low, high = self.values.min(0), self.values.max(0)
        extreme = np.where(high > -low, high, low)
        low = np.minimum(low, 0)  # minimums are not negative
        span = np.maximum(high - low, np.abs(extreme) * np.float32(2**-10))
        for narrower, where in starts:
            scales = (span / self.highest if self.affine else extreme / self.lowest) / np.float32(narrower)
            minimums = np.maximum(np.float32(where) * (scales * self.highest - span) - low, 0)
            for _ in range(ROUNDS):
                scales, minimums = self.fit(scales, minimums)

    def round(self, scales: Floats, minimums: Floats) -> None:
        """Set `codes` to the nearest ones."""
        inverses = inverse(scales)
        np.multiply(self.values, inverses, out=self._rest)
        if self.affine:
            self._rest += minimums * inverses
        np.rint(self._rest, out=self.codes)
        np.clip(self.codes, self.lowest, self.highest, out=self.codes)

    def sums(self) -> tuple[Floats, Floats, Floats]:
        """Importance × code, × code², × code × value, summed over each group (the first only where it is needed)."""
        weighted = np.multiply(self.importance, self.codes, out=self._rest)
        first = weighted.sum(0) if self.affine else np.zeros_like(self.total)
        return first, np.einsum("ig,ig->g", weighted, self.codes), np.einsum("ig,ig->g", weighted, self.values)

    def fit(self, scales: Floats, minimums: Floats) -> tuple[Floats, Floats]:
        """The least-squares grids for the codes of the given ones; kept where they are the best so far."""
        self.round(scales, minimums)
        first, second, product = self.sums()
        alone = product * inverse(second)
        if not self.affine:
            return self._keep(alone, np.zeros_like(alone), product * alone)
        determinant = self.total * second - first * first
        sound = determinant > SOUND * self.total * second  # else all codes are alike: the scale stays
        both = (self.total * product - first * self.moment) * inverse(np.where(sound, determinant, 0))
        scales = np.where(sound, both, scales)
        biases = (self.moment - scales * first) * inverse(self.total)
        refused = (biases > 0) | (scales <= 0)
        scales, biases = np.where(refused, np.maximum(alone, 0), scales), np.where(refused, 0, biases)
        gains = scales * (2 * (product - biases * first) - scales * second)
        return self._keep(scales, -biases, gains + biases * (2 * self.moment - biases * self.total))

    def _keep(self, scales: Floats, minimums: Floats, gains: Floats) -> tuple[Floats, Floats]:
        """`gains`: by how much the squared error is smaller than that of all zeros."""
        better = gains > self._gains
        for best, found in ((self.scales, scales), (self.minimums, minimums), (self._gains, gains)):
            np.copyto(best, found, where=better)
        return scales, minimums

    def errors(self, scales: Floats, minimums: Floats) -> Floats:
        """Each group's squared error with the nearest codes; infinite for a scale of zero, as any other is no worse."""
        self.round(scales, minimums)
        self._rest -= self.codes
        errors = np.einsum("ig,ig,ig->g", self.importance, self._rest, self._rest)
        return np.where(scales != 0, errors * scales * scales, np.float32(np.inf))
