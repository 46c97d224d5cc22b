"""Matrices whose elements share a scale, and maybe a zero point, in blocks: of a row, of rows and columns, or of all.

weight = (element − zero) × scale, in float32, rounded twice at most: whole numbers below 2^24 are subtracted exactly.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.numerics.row_blocks import over_rows

Matrix = NDArray[np.float32]
Places = NDArray[np.intp]


def columns_of(length: int, width: int) -> Places:
    """(length,): for each column, which block of `width` columns it is in."""
    return np.arange(length) // width


def multiplied(
    elements: Callable[[slice], Matrix], height: int, rows: int, columns: Places, scales: Matrix, zeros: Matrix | None
) -> Matrix:
    """The dense (rows, len(columns)) matrix.

    `elements` gives the elements of some rows, in an array of their own. Blocks are `height` rows high; `columns` says
    which column of the (blocks, groups) `scales` and `zeros` a column of the matrix belongs to.
    """
    dense = np.empty((rows, len(columns)), np.float32)

    def work(part: slice) -> None:
        found, blocks = elements(part), np.arange(part.start, part.stop) // height
        if zeros is not None:
            found -= np.take(zeros[blocks], columns, axis=1)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is seen, and told, by those who ask
            np.multiply(found, np.take(scales[blocks], columns, axis=1), out=dense[part])

    over_rows(work, rows, len(columns))
    return dense
