"""Rounding to nearest on MLX's affine grid, and what such codes decode to: to the last bit as MLX on a CPU does it.

Source: the affine mode of `mlx.core.quantize` (MLX documentation). A group of weights along a row has one grid,
weight = code × scale + bias. Of its smallest and its largest weight, the one further from zero (the edge) lies on the
grid exactly, and so does zero where it is in the range: the scale starts as range / (2^bits − 1), is then stretched
until the edge is a whole number of steps from zero, and the bias is the edge, from which codes count towards the other
end (the scale is negative where the edge is the largest weight). A group that lies so far below one step that even its
edge rounds to zero has a bias of zero. No step is finer than 10^-7.

All of this is float32 whatever the weights' type; scales and biases are rounded to that type at the end, and codes
were chosen before. Costs a dozen passes over blocks that stay in the cache: about the time that MLX takes.
"""

from typing import TypeVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.numerics.bit_packing import Codes, unpack
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows

Floats = NDArray[np.float16] | NDArray[np.float32] | NDArray[ml_dtypes.bfloat16]
Matrix = NDArray[np.float32]
Kind = TypeVar("Kind", np.float16, np.float32, ml_dtypes.bfloat16)

FINEST = np.float32(1e-7)  # the smallest scale


def rounded(weight: NDArray[Kind], group: int, bits: int) -> tuple[Codes, NDArray[Kind], NDArray[Kind]]:
    """(out, in) finite weights, `group` of a row to a grid → (out, in) codes, (out, in / group) scales and biases.

    Codes are uint8 from 0 to 2^bits − 1; scales and biases have the weights' type. `group` divides the row. Weights of
    both signs near the end of the range of bfloat16 give an infinite scale, as in MLX.
    """
    outs, ins = weight.shape
    codes = np.empty((outs, ins), np.uint8)
    scales, biases = (np.empty((outs, ins // group), weight.dtype) for _ in range(2))

    def work(rows: slice) -> None:
        groups = weight[rows].astype(np.float32).reshape(-1, ins // group, group)
        with np.errstate(over="ignore"):
            step, low = _grids(groups, np.float32(2**bits - 1))
            groups -= low[:, :, None]
            groups /= step[:, :, None]
            np.rint(groups, out=groups)
            np.clip(groups, 0, 2**bits - 1, out=groups)
            codes[rows] = groups.reshape(-1, ins)
            scales[rows], biases[rows] = step, low

    over_rows(work, outs, ins)
    return codes, scales, biases


def _grids(groups: Matrix, top: np.float32) -> tuple[Matrix, Matrix]:
    """The float32 scale and bias of each group of (rows, groups, group) for codes up to `top`."""
    low, high = groups.min(2), groups.max(2)
    negative = np.abs(low) > np.abs(high)  # the edge is the smallest weight
    scales = np.maximum((high - low) / top, FINEST)
    np.negative(scales, out=scales, where=~negative)
    edges = np.where(negative, low, high)
    steps = np.rint(edges / scales)  # from zero to the edge
    np.divide(edges, steps, out=scales, where=steps != 0)
    return scales, np.where(steps != 0, edges, np.float32(0))


def decoded(packed: NDArray[np.uint8], scales: Floats, biases: Floats, bits: int) -> Matrix:
    """(out, bytes) packed codes, (out, groups) scales and biases → (out, in) float32: code × scale + bias.

    Scales and biases are taken as float32, so that nothing is rounded to 16 bits; kernels do not round either.
    """
    outs, ins = len(packed), packed.shape[1] * 8 // bits
    dense = np.empty((outs, ins), np.float32)

    def work(rows: slice) -> None:
        grouped = dense[rows].reshape(-1, scales.shape[1], ins // scales.shape[1])  # a view: rows are whole
        grouped[:] = unpack(packed[rows], bits).reshape(grouped.shape)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is seen, and told, by those who ask
            grouped *= scales[rows].astype(np.float32)[:, :, None]
            grouped += biases[rows].astype(np.float32)[:, :, None]

    over_rows(work, outs, ins)
    return dense
