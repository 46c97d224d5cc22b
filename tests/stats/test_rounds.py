"""Means of rounds that depend on their neighbours: by hand, and how often their intervals miss, by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.stats.estimates import ALPHA, Ratio, Student, student_quantile
from pytest_quantbench.stats.rounds import Widest, correlation, mean_of_rounds, widening, wider


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
    assert (found.value, found.errors) == (2.0, ((pytest.approx(error), 5.0),))
    assert widening([1.0, 3.0, 1.0, 3.0, 1.0, 3.0]) == pytest.approx(student_quantile(ALPHA, 5))


def test_a_load_that_came_for_a_stretch_is_seen():
    """Half of the rounds beside other load: the mean is hardly known, though the rounds within each half agree."""
    rounds = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0, 2.0, 2.01, 1.99, 2.0, 2.01, 1.99, 2.0]
    found = mean_of_rounds(rounds)
    naive = np.std(rounds, ddof=1) / math.sqrt(len(rounds))
    assert max(error for error, _ in found.errors) > 1.5 * naive
    assert found.interval().low < 1 < 2 < found.interval().high
    assert widening(rounds) > 2.5 * student_quantile(ALPHA, 13)


def test_nothing_is_known_of_one_round_or_of_rounds_that_are_all_the_same():
    assert mean_of_rounds([2.0]) is None
    assert mean_of_rounds([2.0] * 20) is None
    assert widening([2.0] * 20) == pytest.approx(student_quantile(ALPHA, 19))
    assert wider(None, None) is None
    assert wider(None, found := mean_of_rounds([1.0, 2.0])) == found


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
    for (error, degrees), (own, as_many) in zip(after.errors, before.errors, strict=True):
        assert (error, degrees) == (pytest.approx(scale * own, rel=1e-3), pytest.approx(as_many, rel=1e-3))
    naive = student_quantile(ALPHA, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert after.interval().reach >= 0.99 * scale * naive


def test_the_widest_error_holds_at_every_error_probability():
    """Of 14 and of 4 degrees of freedom: at 5 % the first reaches farther, at 0.1 % the second."""
    first, second = (
        Student(value=0.1, standard_error=1.0, degrees=14),
        Student(value=0.1, standard_error=0.8, degrees=4),
    )
    both = wider(first, second)
    for alpha, holds, reach in ((0.05, first, 1.761), (0.001, second, 5.739)):
        assert both.interval(alpha) == holds.interval(alpha)
        assert both.interval(alpha).reach == pytest.approx(reach, abs=1e-3)
    assert both.detectable(0.0, 0.001) == second.detectable(0.0, 0.001)
    assert Ratio(logarithm=both).interval(0.001).high == pytest.approx(math.exp(0.1 + 5.739), rel=1e-3)


@given(
    st.lists(st.tuples(st.floats(0.1, 3), st.floats(1, 50)), min_size=1, max_size=4),
    st.floats(0.001, 0.4),
    st.floats(-5, 5),
)
def test_the_interval_ends_where_p_is_alpha(errors, alpha, value):
    found = Widest(value=value, errors=tuple(errors))
    interval = found.interval(alpha)
    assert found.p_below(interval.high) == pytest.approx(alpha)
    assert found.p_above(interval.low) == pytest.approx(alpha)
    assert found.p_below(interval.low) + found.p_above(interval.low) == pytest.approx(1)


def test_a_difference_has_both_errors_and_as_many_degrees_as_the_fewer():
    first, second = Widest(value=3.0, errors=((3.0, 9.0), (1.0, 4.0))), Widest(value=1.0, errors=((4.0, 2.0),))
    found = first.less(second)
    assert (found.value, found.errors) == (2.0, ((5.0, 2.0), (pytest.approx(math.sqrt(17)), 2.0)))
    assert first.shaken(4.0).errors == ((5.0, 9.0), (pytest.approx(math.sqrt(17)), 4.0))


def test_figures_that_means_were_taken_off_of_tell_less():
    plain, left = mean_of_rounds([1.0, -1.0] * 3), mean_of_rounds([1.0, -1.0] * 3, beside=2)
    error, degrees = plain.errors[0]
    assert left.errors == ((pytest.approx(error * math.sqrt(5 / 3)), pytest.approx(degrees * 3 / 5)),)
    assert mean_of_rounds([1.0, -1.0, 0.5], beside=2) is None


def test_a_widening_is_of_the_error_probability_that_is_asked_for():
    rounds = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0, 2.0, 2.01, 1.99, 2.0, 2.01, 1.99, 2.0]
    naive = np.std(rounds, ddof=1) / math.sqrt(len(rounds))
    for alpha in (0.05, 0.001):
        assert widening(rounds, alpha) * naive == pytest.approx(mean_of_rounds(rounds).interval(alpha).reach)
