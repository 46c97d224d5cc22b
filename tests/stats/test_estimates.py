"""Estimates: intervals and p values are two views of one test."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from pytest_quantbench.stats.estimates import Exact, ExpDifference, Ratio, Student

students = st.builds(
    lambda value, error, degrees: Student(value=value, standard_error=error, degrees=degrees),
    st.floats(-50, 50),
    st.floats(1e-3, 20),
    st.integers(1, 300),
)
alphas = st.floats(1e-3, 0.4)


@given(students, alphas)
def test_an_interval_ends_where_its_p_value_is_alpha(estimate, alpha):
    interval = estimate.interval(alpha)
    assert estimate.p_below(interval.high) == pytest.approx(alpha, rel=1e-3)
    assert estimate.p_above(interval.low) == pytest.approx(alpha, rel=1e-3)
    assert interval.confidence == pytest.approx(1 - 2 * alpha)


@given(students, alphas, alphas)
def test_intervals_widen_as_alpha_falls(estimate, one, other):
    wide, narrow = (estimate.interval(alpha) for alpha in sorted((one, other)))
    assert wide.low <= narrow.low <= narrow.estimate <= narrow.high <= wide.high


@given(students, st.floats(0.1, 10), alphas)
def test_intervals_are_equivariant_to_scale(estimate, scale, alpha):
    scaled = Student(
        value=scale * estimate.value, standard_error=scale * estimate.standard_error, degrees=estimate.degrees
    ).interval(alpha)
    plain = estimate.interval(alpha)
    assert (scaled.low, scaled.high) == pytest.approx((scale * plain.low, scale * plain.high))


differences = st.builds(
    lambda before, change, spreads, correlation, degrees: ExpDifference(
        after=before + change,
        before=before,
        covariance=(spreads[0] ** 2, correlation * spreads[0] * spreads[1], spreads[1] ** 2),
        degrees=degrees,
    ),
    st.floats(0.5, 5),
    st.floats(-0.5, 2),
    st.tuples(st.floats(1e-3, 0.2), st.floats(1e-3, 0.2)),
    st.floats(-0.5, 0.99),
    st.integers(3, 300),
)


@given(differences, st.floats(0.01, 0.4))
def test_a_difference_of_perplexities_ends_where_its_p_value_is_alpha(estimate, alpha):
    interval = estimate.interval(alpha)
    assert interval.low <= estimate.value <= interval.high
    assert estimate.p_below(interval.high) == pytest.approx(alpha, rel=1e-3)
    assert estimate.p_above(interval.low) == pytest.approx(alpha, rel=1e-3)
    wide = estimate.interval(alpha / 2)
    assert wide.low <= interval.low <= interval.high <= wide.high


@given(differences)
def test_a_difference_turned_round_has_the_interval_turned_round(estimate):
    after, cov, before = estimate.covariance
    turned = ExpDifference(
        after=estimate.before, before=estimate.after, covariance=(before, cov, after), degrees=estimate.degrees
    ).interval()
    assert (turned.low, turned.high) == pytest.approx((-estimate.interval().high, -estimate.interval().low), rel=1e-4)


def test_a_small_error_gives_the_delta_methods_interval():
    a, b, cov = 2.6, 2.5, (4e-6, 3.6e-6, 4e-6)
    estimate = ExpDifference(after=a, before=b, covariance=cov, degrees=200)
    p, q = math.exp(a), math.exp(b)
    error = math.sqrt(p * p * cov[0] - 2 * p * q * cov[1] + q * q * cov[2])
    plain = Student(value=p - q, standard_error=error, degrees=200).interval()
    assert (estimate.interval().low, estimate.interval().high) == pytest.approx((plain.low, plain.high), rel=0.01)
    assert estimate.detectable(p - q) == pytest.approx(2.5 * error, rel=0.03)


def test_a_difference_that_no_number_bounds_is_said_in_numbers():
    interval = ExpDifference(after=2.0, before=2.0, covariance=(1e6, 0.0, 1e6), degrees=1).interval()
    assert (interval.low, interval.high) == (-1e300, 1e300)


def test_student_is_scipys():
    interval = Student(value=1.0, standard_error=0.5, degrees=7).interval(0.05)
    assert (interval.low, interval.high) == pytest.approx(scipy_stats.t.interval(0.9, 7, 1.0, 0.5))


def test_a_ratio_is_the_exponential_of_its_logarithm():
    ratio = Ratio(logarithm=Student(value=math.log(2), standard_error=0.1, degrees=4))
    assert ratio.value == pytest.approx(2)
    assert ratio.p_below(ratio.interval().high) == pytest.approx(0.05)
    assert ratio.p_above(ratio.interval().low) == pytest.approx(0.05)
    assert (ratio.p_below(0.0), ratio.p_above(-1.0)) == (1.0, 0.0)
    assert Ratio(logarithm=Student(value=0.0, standard_error=1e6, degrees=1)).interval().high < math.inf


def test_the_detectable_difference_is_found_with_its_power():
    estimate = Student(value=0.0, standard_error=1.0, degrees=10**6)
    found = scipy_stats.norm.sf(scipy_stats.norm.isf(0.05) - estimate.detectable(0.0))
    assert found == pytest.approx(0.8, abs=1e-4)


def test_what_is_exact_meets_its_limit_on_either_side():
    assert (Exact(value=3.0).p_below(3.0), Exact(value=3.0).p_above(3.0)) == (0.0, 0.0)
    assert (Exact(value=4.0).p_below(3.0), Exact(value=4.0).p_above(3.0)) == (1.0, 0.0)
