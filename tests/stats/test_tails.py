"""Percentiles far out, against a sorted sample."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.stats import tails


def test_marked_percentiles_are_those_of_the_sample():
    values = np.random.default_rng(0).permutation(np.arange(1001.0))
    assert tails.marked(values) == pytest.approx({50.0: 500, 90.0: 900, 95.0: 950, 99.0: 990, 99.9: 999})


def test_a_percentile_beyond_which_there_is_nothing_is_left_out():
    assert list(tails.marked(np.arange(100.0))) == [50.0, 90.0, 95.0, 99.0]
    assert list(tails.marked(np.arange(2.0))) == [50.0]
    assert tails.marked(np.arange(1.0)) == {}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_a_curve_goes_from_the_least_to_nearly_the_largest(values):
    sample = np.array(values)
    shares, found = tails.curve(sample)
    assert found[0] == sample.min()
    assert (np.diff(found) >= -1e-6).all()
    assert found[-1] <= sample.max()
    assert shares[0] == 1
    assert shares[-1] == pytest.approx(1 / len(values))


def test_there_is_no_curve_of_nothing():
    with pytest.raises(ValueError, match="no values"):
        tails.curve(np.array([]))
