"""Sums over blocks of 64 weights, by which a decoded matrix is compared with the original: one pass over both; and what
plain rounding would have done to it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Sums = NDArray[np.float64]

BLOCK = 64  # weights of a row that are looked at together, whatever a code's own groups are
AT_ONCE = 2**18  # weights: what fits in a core's cache
LOST = 0.3  # cosine with the original below which nothing of it is left; at 2 bits the worst rows have 0.5
SEARCHED = 16  # lost rows or blocks of columns that are looked for elsewhere
SHARE_OF_ROUNDING = 0.5  # of rounding's error is what any code may have: weights may be on its grid but for a few
FLOATING_4_UP_TO = 6.0  # bits per weight: E2M1 with its scales, beyond them E4M3
USUAL_FLOATING_4, USUAL_FLOATING_8 = 1.8, 2.3  # × the noise of 20.8 dB, and of 34 dB: theirs on Gaussian weights
SIZES = tuple(2 ** (eighth / 8) for eighth in range(8))  # × the weights: floating point repeats at twice the size


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSums:
    """(rows, blocks of 64 columns) sums over the weights w of each block, decoded as d. Zeros fill the last block."""

    weight: Sums  # |w|
    error: Sums  # |d − w|
    weight_square: Sums
    decoded_square: Sums
    error_square: Sums
    product: Sums  # w × d
    shift: Sums  # d − w
    span: Sums  # from the smallest to the largest weight, zero among them; no sum

    def cosines(self, axis: int) -> Sums:
        """Of every row (axis 1) or block of columns (axis 0) with the original: 1 where both are zero, 0 where one."""
        first, second = self.weight_square.sum(axis), self.decoded_square.sum(axis)
        norms = np.sqrt(first * second)
        both = ((first == 0) & (second == 0)).astype(np.float64)
        found: Sums = np.divide(self.product.sum(axis), norms, out=both, where=norms > 0)
        return found

    def gains(self, axis: int) -> Sums:
        """How much larger every row, or block of columns, comes back, by least squares; 1 where it was zero."""
        before = self.weight_square.sum(axis)
        found: Sums = np.divide(self.product.sum(axis), before, out=np.ones_like(before), where=before > 0)
        return found

    def excesses(self) -> Sums:
        """What all parts share, 0 for nothing: by how much the weights come back too large, by how much what comes back
        would have to be larger to be nearest to the weights, and the mean error by the mean absolute weight.

        Of the whole matrix or of its median block, whichever is nearer to 0: clipped outliers move only the first.
        """
        found = [
            _nearer(self.product, self.weight_square) - 1,
            _nearer(self.product, self.decoded_square) - 1,
            abs(_nearer(self.shift, self.weight, 0.0)),
        ]
        return np.array(found)

    def sizes(self, axis: int) -> Sums:
        """The norms of the original rows or blocks of columns, by the median of those that are not zero."""
        norms: Sums = np.sqrt(self.weight_square.sum(axis))
        if norms.any():
            norms /= np.median(norms[norms > 0])
        return norms


def _nearer(first: Sums, second: Sums, neutral: float = 1.0) -> float:
    """The ratio of all, or the median ratio of the blocks: the one that is nearer to `neutral`."""
    known = second > 0
    if not known.any():
        return neutral
    ratios = float(first.sum() / second.sum()), float(np.median(first[known] / second[known]))
    return min(ratios, key=lambda ratio: abs(ratio - neutral))


def scaled(before: Matrix, after: Matrix) -> tuple[Matrix, Matrix]:
    """Both, times a power of two where squares of the values would leave float32."""
    peak = float(np.abs(before).max(initial=0))
    if peak == 0 or 1e-12 < peak < 1e12:
        return before, after
    factor = np.float64(2.0) ** -math.frexp(peak)[1]
    return (before * factor).astype(np.float32), (after * factor).astype(np.float32)


def block_sums(before: Matrix, after: Matrix) -> BlockSums:
    """Of two (rows, columns) matrices, a few rows at a time."""
    rows, width = before.shape
    step = max(1, AT_ONCE // max(1, width))
    parts = [_part(before[row : row + step], after[row : row + step]) for row in range(0, rows, step)]
    return BlockSums(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _part(before: Matrix, after: Matrix) -> Mapping[str, Sums]:
    rows, width = before.shape
    blocks = -(-width // BLOCK)
    if missing := blocks * BLOCK - width:
        before, after = (np.pad(each, ((0, 0), (0, missing))) for each in (before, after))
    w, d = before.reshape(rows, blocks, BLOCK), after.reshape(rows, blocks, BLOCK)
    e = d - w
    ones = np.ones(BLOCK, np.float32)

    def summed(first: Matrix, second: Matrix) -> Sums:
        total: Sums = np.einsum("rbk,rbk->rb", first, second).astype(np.float64)
        return total

    return {
        "weight": (np.abs(w) @ ones).astype(np.float64),
        "error": (np.abs(e) @ ones).astype(np.float64),
        "weight_square": summed(w, w),
        "decoded_square": summed(d, d),
        "error_square": summed(e, e),
        "product": summed(w, d),
        "shift": (e @ ones).astype(np.float64),
        "span": (np.maximum(_folded(np.maximum, w), 0) - np.minimum(_folded(np.minimum, w), 0)).astype(np.float64),
    }


def _folded(extreme: np.ufunc, values: Matrix) -> Matrix:
    """The extreme along the last axis, of a power of two: halves against each other, ten times as fast as reducing."""
    while (half := values.shape[-1] // 2) > 0:
        values = extreme(values[..., :half], values[..., half:])
    return values[..., 0]


def worst_rounding(weight: Matrix, bits_per_weight: float) -> tuple[float, Sums]:
    """What plain rounding does to this very matrix: (noise by signal, excesses), each the worst of several grids.

    Weights of few values, or close to each other, may all lie in the middle between two levels of a sound code. Affine
    grids are as MLX makes them; those of floating point are tried at several sizes of the weights.
    """
    filled = weight[np.abs(weight).max(axis=1) > 0]
    rows = filled[:: max(1, filled.size // AT_ONCE)]
    grouped = np.pad(rows, ((0, 0), (0, -rows.shape[1] % BLOCK))).reshape(len(rows), -1, BLOCK)
    mantissa, factor = (3, USUAL_FLOATING_8) if bits_per_weight > FLOATING_4_UP_TO else (1, USUAL_FLOATING_4)
    tried = [(_affine(grouped, round(max(bits_per_weight - 0.5, 2.0))), 1.0)]
    tried += [(_floating(grouped * np.float32(size), mantissa) / np.float32(size), factor) for size in SIZES]
    noise, excesses = [], []
    for decoded, usual in tried:
        sums = block_sums(rows, np.ascontiguousarray(decoded.reshape(len(rows), -1)[:, : rows.shape[1]]))
        noise.append(float(sums.error_square.sum() / sums.weight_square.sum()) / usual)
        excesses.append(sums.excesses())
    return max(noise), np.maximum(np.max(excesses, axis=0), 0)


def _affine(groups: Matrix, bits: int) -> Matrix:
    """Levels from the value of a group that is furthest from zero, which is a level too."""
    low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
    step = np.maximum((high - low) / (2**bits - 1), np.finfo(np.float32).tiny)
    edge, inwards = np.where(-low > high, low, high), np.where(-low > high, 1, -1)
    places = np.rint(edge / step)
    step = inwards * np.abs(np.where(places == 0, step, edge / np.where(places == 0, 1, places)))
    found: Matrix = np.clip(np.rint((groups - edge) / step), 0, 2**bits - 1) * step + edge
    return found.astype(np.float32)


def _floating(groups: Matrix, mantissa: int) -> Matrix:
    """Floating point with so many bits of mantissa, times a power of two for each group: E2M1, or E4M3."""
    smallest, largest = (2, 1.5) if mantissa == 1 else (14, 1.75)  # powers of two below the largest, and the largest
    power = np.exp2(np.floor(np.log2(np.maximum(np.abs(groups).max(-1, keepdims=True), np.finfo(np.float32).tiny))))
    scaled_down = groups / power
    size = np.floor(np.log2(np.maximum(np.abs(scaled_down), 2.0**-smallest)))
    step = np.exp2(size - mantissa)
    found: Matrix = np.clip(np.rint(scaled_down / step) * step, -largest, largest) * power
    return found.astype(np.float32)


def levels(bits_per_weight: float) -> float:
    """Steps from the smallest to the largest weight of a group, where scales and offsets take half a bit."""
    return float(2 ** max(bits_per_weight - 0.5, 1.0)) - 1


def rounding_noise(span: Sums, bits_per_weight: float) -> float:
    """The squared error of rounding in groups of 64: a twelfth of a squared step for every weight."""
    return float(np.square(span).sum()) * BLOCK / 12 / levels(bits_per_weight) ** 2


def error_of_like(error: Sums, expected: Sums) -> Sums:
    """The error that parts with such an expectation have in this matrix: the median of the ratio, times it."""
    known = expected > 0
    if not known.any():
        return np.zeros_like(error)
    like: Sums = max(float(np.median(error[known] / expected[known])), SHARE_OF_ROUNDING) * expected
    return like


def distinct(weight: Matrix) -> int:
    """How many values some group of the matrix has, of the first thousand groups."""
    first = weight[: max(1, 1000 * BLOCK // weight.shape[1]), :BLOCK]
    return max(len(np.unique(group)) for group in first)


def moved_rows(before: Matrix, after: Matrix, lost: NDArray[np.intp]) -> list[tuple[int, int]]:
    """(where a row is, where it belongs) for lost rows that are like another row of the original."""
    places = lost[:: max(1, len(lost) // SEARCHED)][:SEARCHED]
    norms = np.linalg.norm(before, axis=1)
    own = np.linalg.norm(after[places], axis=1)
    alike = (after[places] @ before.T) / np.maximum(own[:, None] * norms[None], 1e-30)
    best = alike.argmax(axis=1)
    return [
        (int(place), int(found))
        for place, found, row in zip(places, best, alike, strict=True)
        if row[found] > max(LOST, 6 / math.sqrt(before.shape[1])) and found != place
    ]


def moved_columns(before: Matrix, after: Matrix, lost: NDArray[np.intp]) -> list[tuple[int, int]]:
    """The same for blocks of 64 columns, by whole blocks."""
    rows, width = len(before), before.shape[1] // BLOCK
    first, second = (
        each[:, : width * BLOCK].reshape(rows, width, BLOCK).transpose(1, 0, 2).reshape(width, rows * BLOCK)
        for each in (before, after)
    )
    whole = lost[lost < width]
    return moved_rows(first, second, whole) if len(whole) else []
