"""Synthetic matrices and the bound that no code exceeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.workbench import matrices


def test_white_inputs_give_shannons_line():
    for bits in (1, 2, 3.5):
        assert matrices.bound_db(np.eye(16), bits) == pytest.approx(20 * np.log10(2) * bits)


def slow_bound(hessian, bits):
    """Reverse water-filling by bisection of the water level."""
    eigenvalues = np.linalg.eigvalsh(hessian)
    low, high = 1e-30, eigenvalues.max()
    for _ in range(300):
        level = np.sqrt(low * high)
        rate = np.mean([0.5 * np.log2(max(value / level, 1)) for value in eigenvalues])
        low, high = (level, high) if rate > bits else (low, level)
    return 10 * np.log10(eigenvalues.sum() / np.minimum(eigenvalues, level).sum())


@given(st.integers(2, 12), st.floats(0.05, 8), st.integers(0, 1000))
def test_the_bound_is_that_of_bisection(size, bits, seed):
    drawn = np.random.default_rng(seed).standard_normal((2 * size, size)) * np.geomspace(1, 30, size)
    hessian = drawn.T @ drawn
    assert matrices.bound_db(hessian, bits) == pytest.approx(slow_bound(hessian, bits), abs=1e-6)


def test_the_cases_are_what_their_names_say():
    gauss, heavy, correlated = matrices.synthetic((128,))
    for case in (gauss, heavy, correlated):
        assert case.weight.shape == (128, 128)
        assert case.weight.std() == pytest.approx(0.02, rel=0.1)
        assert case.statistics.sample.shape[1] == 128
        assert np.linalg.eigvalsh(case.statistics.hessian.astype(np.float64)).min() > -1e-6
    np.testing.assert_array_equal(gauss.statistics.hessian, np.eye(128))
    assert np.abs(heavy.weight).max() > 1.2 * np.abs(gauss.weight).max()
    assert matrices.bound_db(correlated.statistics.hessian, 2) > matrices.bound_db(np.eye(128), 2) + 3
    assert (gauss.gaussian, heavy.gaussian, correlated.gaussian) == (True, False, True)


def test_the_loudest_inputs_come_first():
    peaks = np.abs(matrices.correlated_inputs(64).peaks).max(axis=1)
    assert (np.diff(peaks) <= 0).all()
