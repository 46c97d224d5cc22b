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
LAZY = 128  # columns whose errors reach the rest of the matrix in one product


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
    that factor's inverse.
    """
    from scipy.linalg import cholesky, solve_triangular

    reverse = cholesky(hessian[::-1, ::-1], lower=True, check_finite=False)[::-1, ::-1]
    inverse: NDArray[np.float64] = solve_triangular(reverse, np.eye(len(hessian)), lower=False, check_finite=False)
    return inverse


def feedback(hessian: NDArray[np.float64], block: int) -> tuple[Matrix, Matrix]:
    """What an error in a block of columns costs, and how the columns after it make up for it.

    Returns `correction` (in, in) float32, unit block upper triangular: an error E of columns B changes the columns j
    after B by −E · correction[B, j]; and `metric` (in / block, block, block) float32: with the later columns at their
    best, the error costs tr(E · metric · Eᵀ). `in` must be a multiple of `block`.
    """
    factor = inverse_factor(hessian)
    rows = factor.reshape(-1, block, len(factor))  # (blocks, block, in)
    inverse = np.linalg.inv(np.stack([row[:, k * block : (k + 1) * block] for k, row in enumerate(rows)]))
    correction = (inverse @ rows).reshape(factor.shape).astype(np.float32)
    return correction, (inverse @ inverse.swapaxes(1, 2)).astype(np.float32)


def sweep(weight: Matrix, correction: Matrix, block: int, encode: Callable[[int, Matrix], Matrix]) -> Matrix:
    """Encode blocks of columns in order, pushing every error onto the columns after it; returns the decoded matrix.

    `weight` is transposed, (in, out) float32, so that a column of W is contiguous. `encode(start, columns)` gets the
    first column's index and the updated (block, out) columns, and returns what they decode to. O(out × in²), in
    products of at least LAZY columns.
    """
    rest, decoded = weight.copy(), np.empty_like(weight)
    errors = np.empty((LAZY, weight.shape[1]), np.float32)
    for begin in range(0, len(rest), LAZY):
        end = min(begin + LAZY, len(rest))
        for start in range(begin, end, block):
            stop = start + block
            decoded[start:stop] = encode(start, rest[start:stop])
            error = errors[start - begin : stop - begin]
            np.subtract(rest[start:stop], decoded[start:stop], out=error)
            if stop < end:
                rest[stop:end] -= correction[start:stop, stop:end].T @ error
        if end < len(rest):
            rest[end:] -= correction[begin:end, end:].T @ errors[: end - begin]
    return decoded


def output_error(error: Matrix, hessian: NDArray[np.floating]) -> float:
    """tr(E H Eᵀ) for an (out, in) error, summed in float64."""
    return float(np.einsum("ij,ij->", error @ hessian.astype(np.float32), error, dtype=np.float64))
