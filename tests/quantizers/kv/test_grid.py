"""The grid that methods share, against numbers worked out by hand."""

import numpy as np
import pytest

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.kv import Grid
from pytest_quantbench.quantizers.kv.grid import divisor


def back(grid, rows):
    return grid.rounded(np.array(rows, np.float32)[None])[0]


def test_a_range_in_two_bits():
    """Zero 0 and steps of 1: halves go to the even neighbour."""
    assert back(Grid(bits=2, group=4), [[0, 0.4, 1.6, 3]]).tolist() == [[0, 0, 2, 3]]
    assert back(Grid(bits=2, group=4), [[0, 0.5, 1.5, 3]]).tolist() == [[0, 0, 2, 3]]
    assert back(Grid(bits=2, group=4), [[-1, -1, 2, 5]]).tolist() == [[-1, -1, 3, 5]]


def test_one_bit_leaves_the_two_ends():
    assert back(Grid(bits=1, group=4), [[-2, -1, 1, 2]]).tolist() == [[-2, -2, 2, 2]]


def test_symmetric_levels():
    """3 bits: seven levels from −3 to 3 steps."""
    grid = Grid(bits=3, group=4, kind="symmetric")
    assert back(grid, [[-6, 2.9, 0, 5.1]]).tolist() == [[-6, 2, 0, 6]]


def test_groups_of_tokens_are_of_one_channel():
    rows = [[0, 100], [1, 200], [2, 300], [3, 400], [8, 8]]
    assert back(Grid(bits=2, group=4, along="tokens"), rows).tolist() == rows
    assert back(Grid(bits=1, group=4, along="tokens"), rows).tolist() == [
        [0, 100],
        [0, 100],
        [3, 400],
        [3, 400],
        [8, 8],
    ]


def test_the_last_group_of_a_row_may_be_shorter():
    assert back(Grid(bits=1, group=4), [[0, 0, 1, 1, 5, 9]]).tolist() == [[0, 0, 1, 1, 5, 9]]


@pytest.mark.parametrize("kind", ["range", "symmetric"])
def test_scales_and_zeros_are_float16(kind):
    numbers = np.random.default_rng(0).standard_normal((1, 1, 32)).astype(np.float32)
    steps = np.unique(np.diff(np.unique(Grid(bits=2, group=32, kind=kind).rounded(numbers))))
    assert np.allclose(steps, np.float16(steps[0]), rtol=1e-6)
    assert np.float32(np.float16(steps[0])) == pytest.approx(steps[0], rel=1e-6)


def test_what_float16_does_not_reach_is_cut_and_what_is_no_number_stays_in_its_group():
    grid = Grid(bits=8, group=2)
    assert back(grid, [[0, 1e9]]).tolist() == [[0, 65504 * 255]]
    rows = back(grid, [[np.nan, 1, 2, 3]])
    assert np.isnan(rows[0, :2]).all()
    assert np.allclose(rows[0, 2:], [2, 3], atol=1e-3)


def test_what_cannot_be_is_refused():
    for wrong in ({"bits": 0}, {"bits": 9}, {"bits": 1, "kind": "symmetric"}, {"bits": 4, "group": 0}):
        with pytest.raises(QuantbenchError, match="grid cannot have"):
            Grid(**{"group": 8, **wrong})
    with pytest.raises(QuantbenchError, match="along channels"):
        Grid(bits=4, group=8, along="tokens", kind="mlx")


@pytest.mark.parametrize(
    ("channels", "most", "group"), [(64, 32, 32), (80, 64, 40), (96, 64, 48), (7, 64, 7), (67, 32, 1)]
)
def test_the_largest_group_that_divides_a_head(channels, most, group):
    assert divisor(channels, most) == group
