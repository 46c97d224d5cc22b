"""Grids that a zero point places: weight = (code − zero point) × scale, the arithmetic of GPTQ, AWQ and their like.

Scales have 16 bits, codes at most 8, zero points are whole numbers or have 16 bits, too, and everything is computed in
float32: what comes out is mostly exact. MLX's affine grid gives the same, code × scale + bias with bias = −zero point ×
scale; where it might not, there is no such layer.
"""

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers import Array
from pytest_quantbench.quantizers.layer import Affine, Layer
from pytest_quantbench.quantizers.numerics.affine import GROUPS
from pytest_quantbench.quantizers.numerics.bit_packing import Codes
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows

Matrix = NDArray[np.float32]


def decoded(codes: Codes, scales: Array, zeros: Array, group_of: Array | None = None) -> Matrix:
    """(out, in) codes, (out, groups) scales and zero points → (out, in) float32.

    `group_of` (in,) says each column's group; without it all groups are of one size, in the columns' order.
    """
    dense = np.empty(codes.shape, np.float32)
    steps, offsets = scales.astype(np.float32), zeros.astype(np.float32)
    rows_as = (-1, codes.shape[1]) if group_of is not None else (-1, steps.shape[1], codes.shape[1] // steps.shape[1])

    def work(rows: slice) -> None:
        if group_of is None:
            step, offset = steps[rows, :, None], offsets[rows, :, None]
        else:
            step, offset = steps[rows][:, group_of], offsets[rows][:, group_of]
        part = dense[rows].reshape(rows_as)  # a view: rows are whole
        np.subtract(codes[rows].reshape(rows_as), offset, out=part)
        with np.errstate(over="ignore"):  # what is not finite is seen, and told, by those who ask
            part *= step

    over_rows(work, *codes.shape)
    return dense


def layer(words: NDArray[np.uint32], bits: int, scales: Array, zeros: Array, in_features: int) -> Layer | None:
    """MLX's affine grid of (out, words) codes along the rows, which decodes to the same numbers.

    Scales and biases have the scales' 16 bits where no bias is rounded by that, and else 32. Groups that are multiples
    of one that MLX's kernels take are repeated in parts. None where no kernel fits: another group, rows that do not
    fill their words or their groups, numbers for which the two ways of computing could differ.
    """
    group, left = divmod(in_features, scales.shape[1])
    fitting = [each for each in GROUPS if group and group % each == 0]
    if left or not fitting or words.shape[1] * 32 != in_features * bits or not _is_exact(scales, zeros, bits):
        return None
    steps = scales.astype(np.float32)
    biases = -zeros.astype(np.float32) * steps
    short = biases.astype(scales.dtype)
    kept = (scales, short) if np.array_equal(short.astype(np.float32), biases) else (steps, biases)
    parts = [np.repeat(each, group // max(fitting), axis=1) for each in kept]
    return Layer(grid=Affine(codes=words, scales=parts[0], biases=parts[1], bits=bits, in_features=in_features))


def _is_exact(scales: Array, zeros: Array, bits: int) -> bool:
    """Whether float32 holds each code − zero point, each code × scale and each bias, so that both ways round once.

    Of 16-bit numbers it holds products. A difference it holds if the zero point is a whole number of steps so fine
    that 24 bits reach from there to the largest code and zero point.
    """
    if scales.dtype == np.float32 or zeros.dtype == np.float32:
        return False
    wide = zeros.astype(np.float64)
    finest = 2.0 ** (23 - max(bits, int(np.ceil(np.abs(wide).max())).bit_length()))
    return bool(np.all(wide * finest == np.rint(wide * finest)))
