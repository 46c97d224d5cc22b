"""Boundaries against known values, against simulation, and what must hold for any looks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from pytest_quantbench.stats.sequential import levels, spent


def bounds(fractions, alpha, **rest):
    return [norm.isf(level) for level in levels(fractions, alpha, **rest)]


def test_the_published_boundaries_of_five_equal_looks():
    found = bounds([0.2, 0.4, 0.6, 0.8, 1.0], 0.025)
    np.testing.assert_allclose(found, [4.88, 3.36, 2.68, 2.29, 2.03], atol=0.006)


def test_one_look_at_all_data_is_the_plain_test():
    assert levels([1.0], 0.05) == pytest.approx([0.05])
    assert levels([0.3], 0.05, ended=True) == pytest.approx([0.05])  # what is left is spent when data end


def test_two_looks_against_scipys_bivariate_normal():
    first, second = bounds([0.5, 1.0], 0.05)
    corr = math.sqrt(0.5)
    never = multivariate_normal([0, 0], [[1, corr], [corr, 1]]).cdf([first, second])
    assert 1 - never == pytest.approx(0.05, abs=2e-5)
    assert norm.sf(first) == pytest.approx(spent(0.5, 0.05), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.02, 0.98), min_size=1, max_size=6, unique=True), st.sampled_from([0.01, 0.025, 0.05]))
def test_levels_never_exceed_alpha_and_what_is_spent_only_grows(fractions, alpha):
    fractions = [*sorted(fractions), 1.0]
    if min(np.diff(fractions)) < 0.01:
        return
    found = levels(fractions, alpha)
    assert all(0 <= level <= alpha + 1e-9 for level in found)
    assert sum(found) >= alpha - 1e-6  # Bonferroni would be the most careful way
    assert [spent(fraction, alpha) for fraction in fractions] == sorted(spent(f, alpha) for f in fractions)


@pytest.mark.parametrize("fractions", [[0.1, 0.2, 0.4, 0.8, 1.0], [0.5, 0.9, 1.0], [0.05, 0.07, 0.6]])
def test_the_error_rate_by_simulation(fractions):
    random, runs = np.random.default_rng(0), 200_000
    ended = fractions[-1] < 1
    steps = np.sqrt(np.diff([0.0, *fractions]))
    sums = np.cumsum(random.standard_normal((runs, len(fractions))) * steps, axis=1)
    crossed = (sums / np.sqrt(fractions) > bounds(fractions, 0.05, ended=ended)).any(1).mean()
    assert crossed == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / runs))


@pytest.mark.parametrize("fractions", [[], [0.0, 1.0], [0.5, 0.5], [0.8, 0.4]])
def test_fractions_that_cannot_be(fractions):
    with pytest.raises(ValueError, match="positive and increasing"):
        levels(fractions, 0.05)
