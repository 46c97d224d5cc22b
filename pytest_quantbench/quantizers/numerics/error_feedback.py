"""The second-order machinery that the calibrated methods share: damping, weighted grids, and error feedback.

For a linear layer y = W x the squared output error of a decoded Ŵ is tr((W − Ŵ) H (W − Ŵ)ᵀ) with H = E[x xᵀ]. If the
columns of W are encoded from the first to the last and every error is made up for by the columns that are still
open, the best correction is linear and follows from a triangular factor of H⁻¹: GPTQ (Frantar et al. 2023, §3) and
LDLQ (Chee et al. 2023, §3.1) are this one rule. `block` columns at a time is the form that vector codes need
(Tseng et al. 2024, §4.1).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.numerics import grid_fitting
from pytest_quantbench.quantizers.numerics.grid_fitting import BFLOAT16, FLOAT16, Grids, Kind, Matrix
from pytest_quantbench.quantizers.protocol import Array


def damped(hessian: NDArray[np.floating], share: float) -> NDArray[np.float64]:
    """(in, in) float64 copy, made safely positive definite: `share` × the mean diagonal is added to the diagonal.

    An input that was always zero gets a diagonal of 1 on top: it stands alone and its weights can be anything.
    """
    damped = hessian.astype(np.float64)
    diagonal = np.einsum("ii->i", damped)  # a view
    dead = diagonal <= 0
    mean = float(diagonal.mean()) or 1.0
    diagonal[dead] = mean
    diagonal += share * mean
    return damped


def inverse_factor(hessian: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper triangular U with UᵀU = H⁻¹, without forming the inverse: (in, in) float64.

    With J the reversal of the order, J H J = L Lᵀ gives H = (J L J)(J L J)ᵀ, whose factor is upper triangular; U is
    that factor's inverse, J L⁻¹ J. O(in³), in one copy of H.
    """
    from scipy.linalg import cholesky
    from scipy.linalg.lapack import dtrtri

    reverse = np.ascontiguousarray(hessian[::-1, ::-1]).T  # symmetric: .T only makes it LAPACK's column order
    lower = cholesky(reverse, lower=True, overwrite_a=True, check_finite=False)
    inverse: NDArray[np.float64] = dtrtri(lower, lower=1, overwrite_c=1)[0]
    return inverse[::-1, ::-1]


def feedback(hessian: NDArray[np.float64], block: int) -> tuple[Matrix, Matrix]:
    """What an error in a block of columns costs, and how the columns after it make up for it.

    Returns `correction` (in, in) float32, unit block upper triangular: an error E of columns B changes the columns j
    after B by −E · correction[B, j]; and `metric` (in / block, block, block) float32: with the later columns at their
    best, the error costs tr(E · metric · Eᵀ). `in` must be a multiple of `block`.
    """
    factor = inverse_factor(hessian)
    starts = range(0, len(factor), block)
    inverse = np.linalg.inv(np.stack([factor[start : start + block, start : start + block] for start in starts]))
    correction = np.zeros(factor.shape, np.float32)
    for start, left in zip(starts, inverse, strict=True):
        correction[start : start + block, start:] = left @ factor[start : start + block, start:]
    return correction, (inverse @ inverse.swapaxes(1, 2)).astype(np.float32)


def sweep(weight: Matrix, correction: Matrix, block: int, encode: Callable[[int, Matrix], Matrix]) -> Matrix:
    """Encode blocks of columns in order, pushing every error onto the columns after it; returns the decoded matrix.

    `weight` is transposed, (in, out) float32, so that a column of W is contiguous. `encode(start, columns)` gets the
    first column's index and the updated (block, out) columns, which are valid during the call only, and returns what
    they decode to. O(out × in²), nearly all of it in large products: the first half of the columns is swept, its
    errors reach the second half in one product, then the second half is swept; and so within each half.
    """
    rest, decoded = weight.copy(), np.empty_like(weight)

    def visit(begin: int, end: int) -> None:
        if end - begin == block:
            decoded[begin:end] = encode(begin, rest[begin:end])
            rest[begin:end] -= decoded[begin:end]  # from here on these columns hold their error
            return
        middle = begin + (end - begin) // block // 2 * block
        visit(begin, middle)
        rest[middle:end] -= correction[begin:middle, middle:end].T @ rest[begin:middle]
        visit(middle, end)

    visit(0, len(rest))
    return decoded


def grids(grouped: Matrix, importance: Matrix, bits: int, kind: Kind) -> Grids:
    """Grids of small squared error in which each column counts by its importance, such as the Hessian's diagonal.

    `grouped` (out, groups, group), `importance` (groups, group). Every start gets one turn, only the best goes on: half
    the work of groups.fit, and within 0.05 dB of its result.
    """
    objective = grid_fitting.Squared(weights=importance)
    return grid_fitting.blockwise(
        grouped, lambda rows: grid_fitting.fit(grouped[rows], bits, kind, objective, grid_fitting.STARTS, turns=(1, 3))
    )


def scale_type(given: Kind, dense: Matrix, exponent: int, bits: int) -> Kind:
    """The weight's own 16-bit type, for MLX wants scales in the type of the activations; bfloat16 for float32.

    bfloat16 also where float16 cannot hold steps of `dense` (out, in) × 2^exponent. It costs nothing up to 4 bits, but
    2 dB of the output SNR at 8, where its biases are too coarse to lay a level on the few weights that count most.
    """
    steps = np.ptp(dense, axis=1) / np.float32(2**bits - 1)
    return grid_fitting.stored_type(steps, exponent) if given == FLOAT16 else BFLOAT16


class ColumnGrids:
    """The grids of a matrix in the layout of a sweep, (in, out): scales and biases (groups, out), codes 0 … `top`."""

    def __init__(self, grids: Grids, bits: int, kind: Kind) -> None:
        self.scales, self.biases = (np.ascontiguousarray(part.T) for part in (grids.scales, grids.biases))
        self.top = 2**bits - 1
        self.kind = kind

    def nearest(self, columns: Matrix, group: int) -> Matrix:
        """The codes, as float32, of the levels of a group's grids that are next to (…, out) values."""
        scales = self.scales[group]
        real = scales > grid_fitting.FLAT
        codes: Matrix = (columns - self.biases[group]) * (real / np.where(real, scales, np.float32(1)))
        np.rint(codes, out=codes)
        return np.clip(codes, 0, self.top, out=codes)

    def level(self, codes: Matrix, group: int) -> Matrix:
        """What (…, out) codes of a group decode to."""
        decoded: Matrix = codes * self.scales[group] + self.biases[group]
        return decoded

    def refit(self, group: int, codes: Matrix, block: Matrix, pull: Matrix) -> Matrix:
        """Fit a group's grids to the whole output error, codes held, wherever that helps: returns Ŵ's change.

        `codes` (group, out), `block` the group's part of H, `pull` (group, out) its part of H Eᵀ. The error is
        quadratic in scale and bias: two normal equations per row. Rows of nearly equal codes keep their scale.
        """
        pulled, sums = block @ codes, block.sum(axis=0)
        square, mixed, total = np.einsum("ij,ij->j", pulled, codes), sums @ codes, sums.sum()
        along, aside = np.einsum("ij,ij->j", pull, codes), pull.sum(axis=0)
        determinant = square * total - mixed * mixed
        sound = determinant > 1e-4 * square * total
        step = np.where(sound, along * total - aside * mixed, 0) / np.where(sound, determinant, np.float32(1))
        old_scale, old_bias = self.scales[group], self.biases[group]
        scale = grid_fitting.rounded(old_scale + step, self.kind)
        scale = np.where(scale > grid_fitting.FLAT, scale, old_scale)
        bias = grid_fitting.rounded(old_bias + (aside - (scale - old_scale) * mixed) / total, self.kind)
        change: Matrix = codes * (scale - old_scale) + (bias - old_bias)
        better = np.einsum("ij,ij->j", 2 * pull - block @ change, change) > 0
        self.scales[group] = np.where(better, scale, old_scale)
        self.biases[group] = np.where(better, bias, old_bias)
        change *= better
        return change

    def stored(self, exponent: int) -> tuple[Array, Array]:
        """Scales and biases × 2^exponent, (out, groups), in their 16-bit type."""
        grids = Grids(scales=self.scales.T, biases=self.biases.T, losses=np.zeros(self.scales.T.shape))
        return grid_fitting.stored(grids, self.kind, exponent)


def output_error(error: Matrix, hessian: NDArray[np.floating]) -> float:
    """tr(E H Eᵀ) for an (out, in) error, summed in float64."""
    return float(np.einsum("ij,ij->", error @ hessian.astype(np.float32), error, dtype=np.float64))
