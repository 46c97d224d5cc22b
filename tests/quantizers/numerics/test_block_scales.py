"""Scales of blocks, held to a loop over single elements."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.quantizers.numerics import row_blocks
from pytest_quantbench.quantizers.numerics.block_scales import columns_of, multiplied


def slow(elements, block, scales, zeros):
    dense = np.empty(elements.shape, np.float32)
    for row, column in np.ndindex(*elements.shape):
        place = (row // block[0], column // block[1])
        dense[row, column] = (elements[row, column] - (0 if zeros is None else zeros[place])) * scales[place]
    return dense


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    block=st.tuples(st.integers(1, 10), st.integers(1, 10)),
    has_zeros=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_block_of_any_matrix(shape, block, has_zeros, seed):
    random = np.random.default_rng(seed)
    elements = random.integers(-8, 8, shape).astype(np.float32)
    blocks = tuple(-(-length // side) for length, side in zip(shape, block, strict=True))
    scales = random.normal(size=blocks).astype(np.float32)
    zeros = random.integers(-8, 8, blocks).astype(np.float32) if has_zeros else None
    kept = elements.copy()
    dense = multiplied(
        lambda rows: elements[rows].copy(), block[0], shape[0], columns_of(shape[1], block[1]), scales, zeros
    )
    np.testing.assert_array_equal(dense, slow(elements, block, scales, zeros), strict=True)
    np.testing.assert_array_equal(elements, kept)


def test_the_rows_are_taken_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(row_blocks, "BLOCK", 20)
    elements, asked = np.ones((7, 8), np.float32), []

    def part(rows):
        asked.append((rows.start, rows.stop))
        return elements[rows].copy()

    scales = np.arange(6, dtype=np.float32).reshape(3, 2)
    dense = multiplied(part, 3, 7, columns_of(8, 4), scales, None)
    assert sorted(asked) == [(0, 2), (2, 4), (4, 6), (6, 7)]
    np.testing.assert_array_equal(dense, slow(elements, (3, 4), scales, None))


def test_columns_in_any_order():
    dense = multiplied(
        lambda rows: np.ones((2, 4), np.float32), 1, 2, np.array([1, 0, 1, 0]), np.array([[2, 3], [4, 5.0]]), None
    )
    assert dense.tolist() == [[3, 2, 3, 2], [5, 4, 5, 4]]


@pytest.mark.parametrize("scale", [np.inf, np.nan, 3e38])
def test_what_is_not_finite_is_for_others_to_tell(scale):
    dense = multiplied(
        lambda rows: np.full((1, 2), 10, np.float32), 1, 1, columns_of(2, 2), np.array([[scale]], np.float32), None
    )
    assert not np.isfinite(dense).any()
