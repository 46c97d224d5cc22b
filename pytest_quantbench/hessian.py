"""The second-order machinery that the calibrated methods share: damping, and rounding with error feedback.

For a linear layer y = W x the squared output error of a decoded Ŵ is tr((W − Ŵ) H (W − Ŵ)ᵀ) with H = E[x xᵀ]. If the
columns of W are encoded from the first to the last and every error is made up for by the columns that are still
open, the best correction is linear and follows from a triangular factor of H⁻¹: GPTQ (Frantar et al. 2023, §3) and
LDLQ (Chee et al. 2023, §3.1) are this one rule. `block` columns at a time is the form that vector codes need
(Tseng et al. 2024, §4.1).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
SHRINKS = np.linspace(1, 0.2, 9, dtype=np.float32)  # shares of a group's range from which a grid is fitted
REFITS = 2


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


def fit_grid(columns: Matrix, importance: Matrix, top: int) -> tuple[Matrix, Matrix]:
    """The evenly spaced grid, levels 0 … top, with the least weighted squared error in each row of a group.

    `columns` (group, out), `importance` (group,): what a squared error in a column costs. Returns scale and bias,
    (out,) float32 each; a constant row gets scale 0. From several shares of the row's range, codes and least-squares
    line are found in turn, and the best grid met is kept.
    """
    weights = importance / importance.sum()
    low, high = columns.min(0), columns.max(0)
    best, kept_scale, kept_bias = np.full(low.shape, np.inf, np.float32), (high - low) / np.float32(top), low
    for shrink in SHRINKS:
        scale = (high - low) * (shrink / np.float32(top))
        bias = (low + high) / 2 - scale * np.float32(top / 2)
        for _ in range(REFITS + 1):
            codes = nearest(columns, scale, bias, top)
            error = columns - codes * scale - bias
            cost = weights @ np.square(error)
            better = cost < best
            best, kept_scale, kept_bias = (
                np.where(better, new, old) for new, old in ((cost, best), (scale, kept_scale), (bias, kept_bias))
            )
            mean_code, mean_error = weights @ codes, weights @ error
            codes -= mean_code
            spread = weights @ np.square(codes)
            codes *= error
            slope = weights @ codes / np.maximum(spread, np.float32(1e-12))
            scale = scale + slope
            bias = bias + mean_error - slope * mean_code
    return kept_scale, kept_bias


def nearest(columns: Matrix, scale: Matrix, bias: Matrix, top: int) -> Matrix:
    """The codes 0 … top, as float32, of the grid points next to (…, out) values; 0 where the scale is 0."""
    codes: Matrix = (columns - bias) * np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    np.rint(codes, out=codes)
    return np.clip(codes, 0, top, out=codes)


def output_error(error: Matrix, hessian: NDArray[np.floating]) -> float:
    """tr(E H Eᵀ) for an (out, in) error, summed in float64."""
    return float(np.einsum("ij,ij->", error @ hessian.astype(np.float32), error, dtype=np.float64))
