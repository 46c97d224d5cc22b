"""HQQ: grids that make the sum of |error|^0.7 small, found by half-quadratic splitting and without any data.

Source: Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models". An ℓp norm with p < 1
cares for the many small errors and forgives the few large ones, as heavy-tailed weights want it. It has no gradient
to follow, so the error is split in two: a sparse part e, found by generalized soft thresholding,
e = sign(r) · max(|r| − |r|^(p−1) / β, 0) of the residual r, and the rest, which the grid follows by least squares. β
grows by 1 % per turn, which ties the parts together.

Cost: 20 turns over the matrix, O(out × in). Storage is MLX's affine one, bits + 32 / group per weight; the zero point
is a 16-bit bias that is not rounded to a code.

Where we differ: the paper states the problem for scale and zero point, but its solver leaves the scale at the range
of the group and moves only the zero point. Here least squares gives both: at 2 bits, where the range is a poor scale,
that is worth 2.4 dB on Gaussian weights, and 0.2 dB at 4. Residuals are measured in steps of the grid, so that
thresholds mean the same whatever the weights' unit; at their plain size (0.02) the paper's β = 10 never thresholds
anything. Each group keeps the grid with the smallest ℓp loss it met. The start is the range, and only that: narrower
starts end in lower ℓp losses, but 2 dB below in SNR at 4 bits, for ℓp forgives clipping.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.numerics import affine, grid_fitting
from pytest_quantbench.quantizers.numerics.affine import AffineStored
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Hqq(AffineStored):
    """Affine codes of `bits`, `group_size` weights of a row to a grid, fitted in the ℓ`p` norm in `turns` turns."""

    p: float = 0.7
    beta: float = 10.0
    kappa: float = 1.01
    turns: int = 20

    name: ClassVar[str] = "hqq"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "none"

    def __post_init__(self) -> None:
        affine.check(self.name, self.bits, self.group_size)
        if not (0 < self.p <= 1 and self.beta > 0 and self.kappa >= 1 and self.turns >= 0):
            raise QuantbenchError(f"{self} cannot be solved: it takes 0 < p ≤ 1, beta > 0, kappa ≥ 1 and turns ≥ 0.")

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → `weight` (out, in × bits / 32) uint32, `scales` and `biases` (out, in / group) 16-bit.

        A padded matrix also has `in_features` (1,) int32, the row length before padding.
        """
        in_features = weight.shape[1]
        group, padded = affine.fit(in_features, self.group_size, self.bits)
        dense, exponent = grid_fitting.normalised(weight)
        grouped = affine.pad(dense, padded).reshape(len(dense), -1, group)
        kind = grid_fitting.stored_type(grid_fitting.steps(grouped, self.bits), exponent)
        objective = HalfQuadratic(power=self.p, beta=self.beta, kappa=self.kappa)

        def solve(rows: slice) -> grid_fitting.Grids:
            start = grid_fitting.span(grouped[rows], self.bits)
            return grid_fitting.descend(grouped[rows], start, self.bits, kind, objective, self.turns)

        grids = grid_fitting.blockwise(grouped, solve)
        codes = grid_fitting.codes_of(grouped, grids, self.bits)
        return affine.store(codes, *grid_fitting.stored(grids, kind, exponent), self.bits, in_features)


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfQuadratic:
    """The ℓp objective of a grid; `beta` × `kappa`^turn is the weight that ties the sparse part to the residual."""

    power: float
    beta: float
    kappa: float
    weights: None = None

    def __call__(self, residuals: grid_fitting.Matrix, turn: int) -> tuple[grid_fitting.Matrix, grid_fitting.Matrix]:
        """Residuals in steps → Σ |r|^p of every group, and r − e = r · min(1, |r|^(p−2) / β).

        One power serves both, and as exp ∘ log it is twice as fast as numpy's.
        """
        share = np.abs(residuals)
        np.maximum(share, np.float32(1e-9), out=share)
        np.log(share, out=share)
        share *= np.float32(self.power - 2)
        np.exp(share, out=share)
        losses = np.einsum("ijk,ijk,ijk->ij", share, residuals, residuals)
        share *= np.float32(1 / (self.beta * self.kappa**turn))
        np.minimum(share, np.float32(1), out=share)
        share *= residuals
        return losses, share
