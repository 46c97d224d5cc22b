"""GPTQ: columns are rounded one after the other, and each one's error is made up for by those still to come.

Source: Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", ICLR 2023, with activation order, static groups and searched
scales as in the authors' later code. The aim is a small output error tr((W − Ŵ) H (W − Ŵ)ᵀ) over the calibration
inputs, H = E[x xᵀ]. First every group of weights gets its scale and bias; then the columns are visited by falling input
power, so that those that matter most are rounded while there are still many to correct them (see error_feedback). Cost:
one Cholesky factor, O(in³), and O(out × in²) for the sweep and again for each round after it.

Where we differ:
- Scales and biases minimise the squared error weighted by the Hessian's diagonal. The paper takes each group's
  smallest and largest weight; where a few inputs are large, as they are in language models, this is worth 3 dB.
- After the sweep, `rounds` times: each group's scale and bias are fitted again to the whole output error, codes held,
  and then each of its columns is rounded again to what the errors of all others ask of it (coordinate descent).
- Scales come from the original weights and so a group can be a run of columns in the original order, although columns
  are visited in another: the result is MLX's affine storage, bits + 32 / group per weight, without any index.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.numerics import affine, error_feedback, grid_fitting
from pytest_quantbench.quantizers.numerics.affine import AffineStored
from pytest_quantbench.quantizers.numerics.error_feedback import ColumnGrids
from pytest_quantbench.quantizers.numerics.grid_fitting import Matrix
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Gptq(AffineStored):
    """Affine codes of `bits`, `group_size` weights of a row to a grid, chosen with error feedback."""

    damping: float = 0.01  # added to the Hessian's diagonal, as a share of its mean
    rounds: int = 1  # of fitting grids and codes again after the sweep

    name: ClassVar[str] = "gptq"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "hessian"

    def __post_init__(self) -> None:
        affine.check(self.name, self.bits, self.group_size)
        if not (self.damping > 0 and self.rounds >= 0):
            raise QuantbenchError(f"{self} cannot be solved: it takes damping > 0 and rounds ≥ 0.")

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `weight` (out, in × bits / 32) uint32, `scales` and `biases` (out, in / group) 16-bit.

        A padded matrix also has `in_features` (1,) int32, the row length before padding.
        """
        if statistics is None:
            raise QuantbenchError("gptq needs calibration: give it a text, or choose a method without, such as hqq.")
        group, padded = affine.fit(weight.shape[1], self.group_size, self.bits)
        order, hessian, correction = _prepare(statistics.hessian, self.damping)
        columns, grids, exponent = self._grids(weight, order, np.diagonal(hessian), group, padded)
        rounding = _Rounding(order // group, grids)
        rounding.sweep(columns, correction)
        del columns, correction  # each as large as the matrix
        for _ in range(self.rounds):
            rounding.refine(hessian)
        codes = rounding.codes[np.argsort(order)].T
        del rounding, hessian
        codes = np.pad(codes, ((0, 0), (0, padded - codes.shape[1])), mode="edge")
        return affine.store(codes, *grids.stored(exponent), self.bits, weight.shape[1])

    def _grids(
        self, weight: Array, order: NDArray[np.intp], power: Matrix, group: int, padded: int
    ) -> tuple[Matrix, ColumnGrids, int]:
        """The weight's columns (in, out) in the order of visit, over 2^exponent; their first grids; the exponent."""
        dense, exponent = grid_fitting.normalised(weight)
        kind = error_feedback.scale_type(weight.dtype, dense, exponent, self.bits)
        importance = np.zeros(padded, np.float32)
        importance[order] = power
        grouped = affine.pad(dense, padded).reshape(len(dense), -1, group)
        grids = error_feedback.grids(grouped, importance.reshape(-1, group), self.bits, kind)
        return dense.T[order], ColumnGrids(grids, self.bits, kind), exponent


def _prepare(hessian: Matrix, damping: float) -> tuple[NDArray[np.intp], Matrix, Matrix]:
    """The order of visit, (in,), and in that order the damped Hessian of mean diagonal 1 and the error feedback."""
    order = np.argsort(-np.diagonal(hessian), kind="stable")
    ordered = error_feedback.damped(hessian[np.ix_(order, order)], damping)
    ordered /= np.diagonal(ordered).mean()
    return order, ordered.astype(np.float32), error_feedback.feedback(ordered, 1)[0]


class _Rounding:
    """A matrix on its way: codes (in, out) in the order of visit, their grids, and the error W − Ŵ (in, out)."""

    codes: NDArray[np.uint8]
    error: Matrix

    def __init__(self, group_of: NDArray[np.intp], grids: ColumnGrids) -> None:
        self.group_of = group_of  # (in,)
        self.grids = grids

    def sweep(self, columns: Matrix, correction: Matrix) -> None:
        """Round all columns in order, with error feedback."""

        def encode(start: int, column: Matrix) -> Matrix:
            group = self.group_of[start]
            codes = self.grids.nearest(column, group)
            self.codes[start] = codes
            return self.grids.level(codes, group)

        self.codes = np.empty(columns.shape, np.uint8)
        self.error = columns - error_feedback.sweep(columns, correction, 1, encode)

    def refine(self, hessian: Matrix) -> None:
        """Group by group: fit scale and bias to the output error, codes held; then each column's codes in turn."""
        for group in range(len(self.grids.scales)):
            members = np.flatnonzero(self.group_of == group)
            block = hessian[np.ix_(members, members)]
            pull = hessian[members] @ self.error  # (members, out): where the error of all columns wants these to go
            error, codes = self.error[members], self.codes[members].astype(np.float32)
            change = self.grids.refit(group, codes, block, pull)
            error -= change
            pull -= block @ change
            for index, (row, power) in enumerate(zip(block, np.diagonal(block), strict=True)):
                wanted = self.grids.level(codes[index], group) + pull[index] / power
                chosen = self.grids.nearest(wanted, group)
                step = (chosen - codes[index]) * self.grids.scales[group]
                pull[index + 1 :] -= row[index + 1 :, None] * step
                error[index] -= step
                codes[index] = chosen
            self.error[members], self.codes[members] = error, codes
