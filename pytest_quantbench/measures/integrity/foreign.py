"""A candidate's weights against the reference's: what no maker does on purpose, and what some do.

Our own recipes round and do nothing else, and `likeness` holds them to that. Others may fold factors into neighbouring
layers (AWQ and SmoothQuant scale the columns of a matrix and divide the norm before it, or the rows of the matrix
before it, by the same), quantize a fine-tune, or keep norms in another type. What remains wrong whoever made it:
zeros, numbers that are none, rows or columns that have lost all likeness or stand in another order, as where two layers
are swapped, parts of another size within a matrix, groups that are off by half of their weights. What may be on
purpose is told as a note, once for all matrices.

Factors are found first: how much larger each column and each row comes back, by least squares. The original is given
them before both are compared, so that an error is looked at on the grid where it was made. A factor of the whole
matrix stays, and is told.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.measures.integrity import likeness
from pytest_quantbench.measures.integrity.block_sums import AT_ONCE, LOST, Matrix, block_sums, rounding_noise, scaled

FOLDED = 0.2  # in logarithms: factors that are nearer to 1 are taken for rounding
COARSE = 2.0  # × noise beside signal: few bits return small columns smaller and large ones larger
TELLING = 0.1  # noise beside signal: beyond it, as 2 bits have, factors cannot be told from that
CHANCE = 4.0  # standard errors of a factor
MANY = (0.01, 0.25)  # of the columns, of the rows: factors of fewer are no folding
SMALL = 0.3  # of the usual size: columns so small are lost in rounding
SAME_SIZE = 0.02  # of a whole matrix: rounding
HALF = 0.5  # of a group's own mean absolute weight
KEPT_ERROR = 0.01  # of the largest value of a tensor that is not quantized: types of 8 bits of mantissa stay below
Factors = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """How one tensor compares with the reference's. `problems`: what is wrong with it, each in a sentence; `factors`:
    the least and the largest of its columns or rows, None where there are none; `short_db`: how much further it is from
    the original than its bits explain; `size`: of the whole matrix against the original.
    """

    name: str
    problems: tuple[str, ...] = ()
    factors: tuple[float, float] | None = None
    short_db: float = 0.0
    size: float = 1.0
    kept_differs: bool = False


def matrix(name: str, original: Matrix, decoded: Matrix, bits_per_weight: float) -> Foreign:
    """Compare one decoded matrix with the original: (out, in), or more dimensions, of which the last is `in`."""
    if problem := likeness.unusable(original, decoded):
        return Foreign(name=name, problems=(f"{name} {problem}",))
    before, after = (np.asarray(each, np.float32).reshape(-1, each.shape[-1] or 1) for each in (original, decoded))
    before, after = scaled(before, after)
    if not before.any():
        return Foreign(name=name)
    if not after.any():
        return Foreign(name=name, problems=(f"{name} comes back as zeros.",))
    if lost := [*likeness.lost_parts(before, after, block_sums(before, after))]:
        return Foreign(name=name, problems=tuple(f"{name} {problem}" for problem in lost))
    before, factors = _with_factors(before, after)
    size = float(np.vdot(before, after)) / float(np.vdot(before, before))
    sums = block_sums(before if abs(size - 1) < SAME_SIZE else before * np.float32(size), after)
    found = [*likeness.resized(sums, bits_per_weight), *likeness.outliers(sums, bits_per_weight, HALF)]
    signal, noise = float(sums.weight_square.sum()), float(sums.error_square.sum())
    snr, usual = (likeness.decibels(signal, each) for each in (noise, rounding_noise(sums.span, bits_per_weight)))
    return Foreign(
        name=name,
        problems=tuple(f"{name} {problem}" for problem in found),
        factors=factors,
        short_db=max(0.0, min(usual, likeness.BEST_DB) - likeness.FLOOR_DB - snr),
        size=size,
    )


def _with_factors(before: Matrix, after: Matrix) -> tuple[Matrix, tuple[float, float] | None]:
    """The original with the factors of the candidate's columns and rows, and the least and the largest of them."""
    found: list[float] = []
    for axis in (0, 1):  # of columns: sums over rows
        gains, _ = _gains(before, after, axis)
        if gains is not None:
            before = before * np.expand_dims(gains, axis).astype(np.float32)
            found += [float(gains.min()), float(gains.max())]
    if not found or _gains(before, after, 0)[1] > TELLING:
        return before, None
    return before, (min(found), max(found))


def _gains(before: Matrix, after: Matrix, axis: int) -> tuple[Factors | None, float]:
    """How much larger each column (axis 0) or row comes back, beside the median, and how noisy they usually are; None
    where all are about the same, or none is like the original.
    """
    product, first, second = (_summed(*pair, axis) for pair in ((before, after), (before, before), (after, after)))
    known = (product > LOST * np.sqrt(first * second)) & (first > 0)
    if not known.any():
        return None, 0.0
    gains = np.divide(product, first, out=np.ones_like(first), where=known)
    gains /= np.median(gains[known])
    gains[~known] = 1.0
    noise = np.divide(first * second - product**2, product**2, out=np.zeros_like(first), where=known)
    noise = np.maximum(noise, 0.0)  # of each, beside its signal
    limit = FOLDED + COARSE * noise + CHANCE * np.sqrt(noise / before.shape[axis])
    far = np.abs(np.log(gains)) > limit
    far &= first > SMALL**2 * np.median(first)
    return gains if far.sum() >= max(2, MANY[axis] * far.size) else None, float(np.median(noise[known]))


def _summed(one: Matrix, other: Matrix, axis: int) -> Factors:
    """The products of two matrices, summed along an axis a few rows at a time."""
    step = max(1, AT_ONCE // one.shape[1])
    parts = [
        np.einsum("rc,rc->c" if axis == 0 else "rc,rc->r", one[row : row + step], other[row : row + step])
        for row in range(0, len(one), step)
    ]
    found: Factors = np.stack(parts).sum(0, dtype=np.float64) if axis == 0 else np.concatenate(parts)
    return found.astype(np.float64)


def kept(name: str, original: Matrix, decoded: Matrix) -> Foreign:
    """Compare a tensor that is not quantized, such as a norm: it may be of another type, folded or tuned, not gone."""
    if problem := likeness.unusable(original, decoded):
        return Foreign(name=name, problems=(f"{name} {problem}",))
    varied = original.size > 1 and bool((original != original.flat[0]).any())
    if decoded.size and (decoded == decoded.flat[0]).all() and (varied or (not decoded.any() and original.any())):
        return Foreign(name=name, problems=(f"{name} comes back with all of its values {decoded.flat[0]:g}.",))
    gap, largest = float(np.abs(original - decoded).max(initial=0)), float(np.abs(original).max(initial=0))
    return Foreign(name=name, kept_differs=gap > KEPT_ERROR * largest)


def findings(found: Sequence[Foreign]) -> tuple[str, ...]:
    """All that is wrong with a candidate's tensors, a sentence each."""
    return tuple(problem for each in found for problem in each.problems)


def notes(found: Sequence[Foreign]) -> tuple[str, ...]:
    """What may be on purpose, each once for all tensors."""
    return tuple(_notes(found))


def _notes(found: Sequence[Foreign]) -> Iterator[str]:
    if folded := [each for each in found if each.factors is not None]:
        ends = [each.factors for each in folded if each.factors is not None]
        least, largest = min(low for low, _ in ends), max(high for _, high in ends)
        yield (
            f"{_named(folded)} have columns or rows of another size than the reference's, {least:.2f} to {largest:.2f} "
            f"times the usual: factors folded into a neighbouring layer, as AWQ and SmoothQuant do."
        )
    if resized := [each for each in found if abs(math.log(max(each.size, 1e-9))) > FOLDED]:
        sizes = [each.size for each in resized]
        yield (
            f"{_named(resized)} come back {min(sizes):.2f} to {max(sizes):.2f} times as large as a whole: folded "
            f"factors, or wrong scales."
        )
    if short := [each for each in found if each.short_db > 0]:
        worst = max(each.short_db for each in short)
        yield (
            f"{_named(short)} are further from the reference than rounding to their bits leaves them, by up to "
            f"{worst:.1f} dB more than is usual: another fine-tune, or a method that fits outputs."
        )
    if differing := [each for each in found if each.kept_differs]:
        yield f"{_named(differing)}, not quantized, differ from the reference's: folded factors, or another fine-tune."


def _named(found: Sequence[Foreign]) -> str:
    return f"{len(found)} tensors ({found[0].name}{', …' if len(found) > 1 else ''})"
