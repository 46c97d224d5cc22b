"""Sums over blocks of 64 weights, by which a decoded matrix is compared with the original: one pass over both."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Sums = NDArray[np.float64]

BLOCK = 64  # weights of a row that are looked at together, whatever a code's own groups are
AT_ONCE = 2**18  # weights: what fits in a core's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSums:
    """(rows, blocks of 64 columns) sums over the weights w of each block, decoded as d. Zeros fill the last block."""

    weight: Sums  # |w|
    error: Sums  # |d − w|
    weight_square: Sums
    decoded_square: Sums
    error_square: Sums
    product: Sums  # w × d
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

    def sizes(self, axis: int) -> Sums:
        """The norms of the original rows or blocks of columns, by the median of those that are not zero."""
        norms: Sums = np.sqrt(self.weight_square.sum(axis))
        if norms.any():
            norms /= np.median(norms[norms > 0])
        return norms


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
        "span": (np.maximum(_folded(np.maximum, w), 0) - np.minimum(_folded(np.minimum, w), 0)).astype(np.float64),
    }


def _folded(extreme: np.ufunc, values: Matrix) -> Matrix:
    """The extreme along the last axis, of a power of two: halves against each other, ten times as fast as reducing."""
    while (half := values.shape[-1] // 2) > 0:
        values = extreme(values[..., :half], values[..., half:])
    return values[..., 0]
