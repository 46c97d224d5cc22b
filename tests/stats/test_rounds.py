"""Means of rounds that depend on their neighbours: by hand, and how often their intervals miss, by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.stats.estimates import ALPHA, student_quantile
from pytest_quantbench.stats.rounds import correlation, mean_of_rounds, widening, wider


def load(rng, rounds, alike):
    """(rounds,) of what other programs do: of deviation 1, where neighbours have this correlation."""
    found = [rng.standard_normal()]
    while len(found) < rounds:
        found.append(alike * found[-1] + math.sqrt(1 - alike**2) * rng.standard_normal())
    return np.array(found)


def missed(rounds, alike, noise=0.0, trials=400):
    """How often the truth is outside of the two-sided 90 % interval."""
    rng = np.random.default_rng(3)
    found = [mean_of_rounds(load(rng, rounds, alike) + noise * rng.standard_normal(rounds)) for _ in range(trials)]
    intervals = [each.interval() for each in found]
    return np.mean([not each.low < 0 < each.high for each in intervals])


def test_the_correlation_is_the_series_own_and_corrected_for_its_length():
    series = np.array([1.0, 2.0, 4.0, 3.0, 1.0])
    centred = series - 2.2
    plain = (centred[0] * centred[1] + centred[1] * centred[2] + centred[2] * centred[3] + centred[3] * centred[4]) / (
        centred @ centred
    )
    assert correlation(series) == pytest.approx(plain + (1 + 3 * plain) / 5)
    assert correlation(np.array([1.0, -1.0] * 10)) == 0.0
    assert correlation(np.arange(50.0)) == 0.9
    assert correlation(np.ones(9)) == correlation(np.array([1.0, 2.0])) == 0.0


def test_alternating_rounds_are_as_independent_ones():
    """Few of them: stretches are not looked at."""
    found = mean_of_rounds([1.0, 3.0, 1.0, 3.0, 1.0, 3.0])
    error = np.std([1, 3, 1, 3, 1, 3], ddof=1) / math.sqrt(6)
    assert (found.value, found.degrees) == (2.0, 5.0)
    assert found.standard_error == pytest.approx(error)
    assert widening([1.0, 3.0, 1.0, 3.0, 1.0, 3.0]) == pytest.approx(student_quantile(ALPHA, 5))


def test_a_load_that_came_for_a_stretch_is_seen():
    """Half of the rounds beside other load: the mean is hardly known, though the rounds within each half agree."""
    rounds = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0, 2.0, 2.01, 1.99, 2.0, 2.01, 1.99, 2.0]
    found = mean_of_rounds(rounds)
    naive = np.std(rounds, ddof=1) / math.sqrt(len(rounds))
    assert found.standard_error > 1.5 * naive
    assert found.interval().low < 1 < 2 < found.interval().high
    assert widening(rounds) > 2.5 * student_quantile(ALPHA, 13)


def test_nothing_is_known_of_one_round_or_of_rounds_that_are_all_the_same():
    assert mean_of_rounds([2.0]) is None
    assert mean_of_rounds([2.0] * 20) is None
    assert widening([2.0] * 20) == pytest.approx(student_quantile(ALPHA, 19))
    assert wider(None, None) is None
    assert wider(None, found := mean_of_rounds([1.0, 2.0])) is found


@pytest.mark.parametrize(
    ("rounds", "alike", "noise", "most"),
    [(15, 0.0, 0, 0.12), (15, 0.6, 0, 0.18), (15, 0.6, 1, 0.16), (60, 0.6, 0, 0.13), (60, 0.8, 0, 0.15)],
)
def test_how_often_it_misses_beside_load_that_lasts(rounds, alike, noise, most):
    """Nominally 10 %; independent errors would miss in 25 to 50 % of those with a correlation of 0.6 and more."""
    assert missed(rounds, alike, noise) <= most


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40), st.floats(-3, 3), st.floats(0.1, 10))
def test_it_moves_and_scales_with_the_figures(values, moved, scale):
    before, after = mean_of_rounds(values), mean_of_rounds([moved + scale * each for each in values])
    if before is None or after is None or np.std(values) < 1e-6:
        return
    assert after.value == pytest.approx(moved + scale * before.value, abs=1e-9)
    assert after.standard_error == pytest.approx(scale * before.standard_error, rel=1e-3)
    naive = student_quantile(ALPHA, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert after.interval().reach >= 0.99 * scale * naive
