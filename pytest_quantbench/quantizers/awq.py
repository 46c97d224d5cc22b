"""AWQ: inputs that matter are made small and their weights large before rounding, so that those lose less.

Source: Lin et al. 2024, "AWQ: Activation-aware Weight Quantization" (arXiv 2306.00978), §3.2 and its code. A few input
channels are much larger than the others, and the error of their weights is most of the output error. Column j of the
weight is multiplied by s_j = (size of input j)^α and the input divided by it, which changes nothing before rounding.
After it a group's steps are shared by columns whose errors count alike. α is searched from 0 (no scaling) to 0.95, and
the range of each group is clipped where that lowers the error.

Cost: 20 candidates for α, each on a few hundred rows: O(20 × rows × in²). Storage: as affine, bits + 32 / group per
weight, and 16 bits for every input.

Where we differ:
- The scales are stored with the matrix and applied to the layer's input. The paper folds them into the layer before,
  which needs to know the architecture and cannot be done where a layer's inputs have no layer of their own before.
- An α is judged by the output error of this matrix, tr((W − Ŵ) H (W − Ŵ)ᵀ), not by that of the block around it.
- The size of an input is its root mean square, which the Hessian's diagonal gives; the paper takes the mean of |x|.
- Clipping is a search on both ends of a group's range followed by least squares for scale and bias, with each column
  weighted by its input. On hard inputs that is worth 0.6 dB over shrinking the range, and best with a smaller α.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Layer
from pytest_quantbench.quantizers.numerics import affine, error_feedback, grid_fitting
from pytest_quantbench.quantizers.numerics.grid_fitting import BFLOAT16, Grids, Kind, Matrix
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics

ROWS = 256  # of the matrix, on which candidates are compared
QUIETEST = 1e-4  # an input counts as at least so large, as a share of the mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Awq(Quantizer):
    """Affine codes of `bits`, `group_size` weights of a row to a grid, behind one scale for each input channel."""

    bits: int
    group_size: int = 64
    candidates: int = 20  # for α, from 0 to just below 1

    name: ClassVar[str] = "awq"
    version: ClassVar[int] = 2
    calibration: ClassVar[Calibration] = "hessian"

    def __post_init__(self) -> None:
        affine.check(self.name, self.bits, self.group_size)
        if self.candidates < 1:
            raise QuantbenchError(f"{self} has nothing to choose from: it takes candidates ≥ 1.")

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise for an (out, in) matrix, such as padding; empty if nothing."""
        return affine.note(weight_shape[1], self.group_size, self.bits)

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → MLX's affine arrays (see affine) of the scaled weight, and `input_scales` (in,) float16.

        Inputs are multiplied by `input_scales`, the 1 / s of the paper. Raises QuantbenchError without statistics.
        """
        if statistics is None:
            raise QuantbenchError("awq needs calibration: give it a text, or choose a method without, such as hqq.")
        dense, exponent = grid_fitting.normalised(weight)
        rows = np.sort(np.random.default_rng(seed).permutation(len(dense))[:ROWS])
        scales = self._scales(dense[rows], statistics.hessian)
        dense, extra = _renormalised(dense / scales)
        kind = error_feedback.scale_type(weight.dtype, dense, exponent + extra, self.bits)
        grids = self._grids(dense, np.diagonal(statistics.hessian) * scales**2, kind)
        codes = grid_fitting.codes_of(self._grouped(dense), grids, self.bits)
        stored = grid_fitting.stored(grids, kind, exponent + extra)
        arrays = affine.store(codes, *stored, self.bits, dense.shape[1])
        return {**arrays, "input_scales": scales.astype(np.float16)}

    def _scales(self, dense: Matrix, hessian: Matrix) -> Matrix:
        """(in,) the 1 / s with the smallest output error of these rows. O(candidates × rows × in²)."""
        sizes = np.sqrt(np.diagonal(hessian))
        sizes = np.maximum(sizes, QUIETEST * (sizes.mean() or 1))
        best, least = np.ones_like(sizes), np.inf
        for alpha in np.arange(self.candidates) / self.candidates:
            scales = _balanced(sizes**-alpha)
            scaled = dense / scales
            grids = self._grids(scaled, np.diagonal(hessian) * scales**2, BFLOAT16)
            error = dense - self._decoded(scaled, grids) * scales
            found = error_feedback.output_error(error, hessian)
            if found < least:
                best, least = scales, found
        return best

    def _grouped(self, dense: Matrix) -> Matrix:
        group, padded = affine.fit(dense.shape[1], self.group_size, self.bits)
        return affine.pad(dense, padded).reshape(len(dense), -1, group)

    def _grids(self, dense: Matrix, power: Matrix, kind: Kind) -> Grids:
        """Grids for an (out, in) matrix whose columns count by `power` (in,); padding counts nothing."""
        grouped = self._grouped(dense)
        importance = np.pad(power, (0, grouped[0].size - len(power))).reshape(grouped.shape[1:])
        total = importance.sum(1, keepdims=True)  # a group of silent inputs is fitted all the same
        return error_feedback.grids(grouped, np.where(total > 0, importance, np.float32(1)), self.bits, kind)

    def _decoded(self, dense: Matrix, grids: Grids) -> Matrix:
        codes = grid_fitting.nearest(self._grouped(dense), grids.scales, grids.biases, self.bits)[0]
        decoded = codes * grids.scales[:, :, None] + grids.biases[:, :, None]
        trimmed: Matrix = decoded.reshape(len(dense), -1)[:, : dense.shape[1]]
        return trimmed

    def decode(self, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """The dense (out, in) weight in float32."""
        return affine.decode(arrays, self.bits) * arrays["input_scales"].astype(np.float32)

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The grid behind the scaling of its inputs."""
        return Layer(grid=affine.grid(arrays, self.bits), input_scales=arrays["input_scales"])


def _balanced(scales: Matrix) -> Matrix:
    """Scaled so that the largest and the smallest are inverse to each other, and rounded to float16."""
    balanced = scales / np.sqrt(scales.max() * scales.min())
    rounded: Matrix = balanced.astype(np.float16).astype(np.float32)
    return rounded


def _renormalised(dense: Matrix) -> tuple[Matrix, int]:
    """Back into the range that `grid_fitting` works in, and the exponent that undoes it."""
    exponent = int(np.frexp(np.abs(dense).max(initial=0.0))[1]) - grid_fitting.TOP
    return np.ldexp(dense, -exponent), exponent
