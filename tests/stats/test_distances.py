import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.stats.distances import distances

NUMBERS = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=50)


def test_known_answers():
    found = distances([1.0, 2.0, 3.0], [1.0, 2.5, 1.0])
    assert (found.count, found.mean, found.rare, found.largest) == (3, pytest.approx(2.5 / 3), 2.0, 2.0)


def test_a_difference_may_be_shared_by_several_tokens():
    assert distances([4.0, 4.0], [0.0, 1.0], per=[2, 3]).largest == 2.0


def test_one_of_ten_thousand_is_beyond_what_is_told_beside_the_largest():
    apart = np.zeros(10_000)
    apart[7] = 1.0
    found = distances(apart, np.zeros(10_000))
    assert (found.rare, found.largest, found.mean) == (0.0, 1.0, 1e-4)


def test_where_nothing_is_compared_nothing_is_apart():
    found = distances([], [])
    assert found.count == 0
    assert found.within(0.0)


def test_what_is_no_number_has_no_distance():
    with pytest.raises(ValueError, match="no number"):
        distances([1.0, np.nan], [1.0, 1.0])


@given(NUMBERS)
def test_they_are_in_order_and_the_same_both_ways(pairs):
    one, other = map(np.array, zip(*pairs, strict=True))
    found = distances(one, other)
    assert 0 <= found.mean <= found.largest * (1 + 1e-12)
    assert 0 <= found.rare <= found.largest
    assert found == distances(other, one)
    assert found.within(found.largest)
    assert not found.largest or not found.within(found.largest * 0.99)
