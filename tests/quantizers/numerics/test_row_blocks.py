"""Blocks cover every row once, in order, whatever the shape; threads change nothing; what fails is raised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.quantizers.numerics.row_blocks import BLOCK, over_rows, places


@given(st.integers(0, 5000), st.integers(0, 3 * BLOCK))
def test_blocks_are_whole_rows_one_after_the_other(rows, columns):
    blocks = places(rows, columns)
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(rows))
    assert all((block.stop - block.start) * columns <= max(BLOCK, columns) for block in blocks)


@pytest.mark.parametrize("cores", [1, 2, 8, None])
def test_results_come_in_order_on_any_number_of_cores(cores, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    matrix = np.arange(40 * BLOCK // 8).reshape(40, -1)
    sums = over_rows(lambda rows: matrix[rows].sum(), *matrix.shape)
    assert len(sums) == 5
    assert sums == [matrix[first : first + 8].sum() for first in range(0, 40, 8)]


def test_what_one_block_raises_is_raised():
    def work(rows):
        if rows.start:
            raise ArithmeticError("the second block")

    with pytest.raises(ArithmeticError, match="the second block"):
        over_rows(work, 2, BLOCK)
