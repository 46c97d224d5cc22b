"""The search for grids: its sums, fits and errors against plain loops, its result against many more starts."""

import numpy as np
import pytest

from pytest_quantbench.quantizers.numerics.kquant_grids import Grids, inverse

UNSIGNED, SIGNED = range(16), range(-4, 4)
STARTS = ((0.95, 0.0), (1.0, 0.5), (1.1, 1.0))


def groups(size=16, count=30, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((size, count)).astype(np.float32)
    return values, np.exp(rng.standard_normal((size, count))).astype(np.float32)


def loss(values, importance, scale, minimum, codes):
    """Weighted squared error of one group with the nearest of the codes, tried one by one."""
    levels = np.array([scale * code - minimum for code in codes])
    distances = np.abs(values[:, None] - levels[None, :]).min(1)
    return float((importance * distances**2).sum())


def losses(grids, codes):
    columns = zip(grids.values.T, grids.importance.T, grids.scales, grids.minimums, strict=True)
    return np.array([loss(v, w, s, m, codes) for v, w, s, m in columns])


@pytest.mark.parametrize(("codes", "minimums"), [(UNSIGNED, True), (SIGNED, False)])
def test_errors_are_those_of_the_nearest_codes(codes, minimums):
    values, importance = groups()
    grids = Grids(values, importance, codes, minimums)
    grids.search(STARTS)
    np.testing.assert_allclose(grids.errors(grids.scales, grids.minimums), losses(grids, codes), rtol=1e-4)
    assert np.isinf(grids.errors(0 * grids.scales, grids.minimums)).all()


def test_a_fit_is_weighted_least_squares():
    values, importance = groups()
    grids = Grids(values, importance, UNSIGNED, True)
    first = (np.ptp(values, axis=0) / 15, -values.min(0))
    scales, minimums = grids.fit(*first)
    for j in range(values.shape[1]):
        codes = np.clip(np.rint((values[:, j] + first[1][j]) / first[0][j]), 0, 15)
        root = np.sqrt(importance[:, j])
        matrix = np.stack([codes, -np.ones(16)], 1) * root[:, None]
        best = np.linalg.lstsq(matrix, values[:, j] * root, rcond=None)[0]
        assert best[1] > 0  # else the constraint would bind
        np.testing.assert_allclose((scales[j], minimums[j]), best, rtol=1e-3)


def test_a_fit_without_minimums_is_weighted_least_squares():
    values, importance = groups()
    grids = Grids(values, importance, SIGNED, False)
    start = np.abs(values).max(0) / 4
    scales, minimums = grids.fit(start, np.zeros_like(start))
    codes = np.clip(np.rint(values / start), -4, 3)
    best = (importance * values * codes).sum(0) / (importance * codes**2).sum(0)
    np.testing.assert_allclose(scales, best, rtol=1e-5)
    assert not minimums.any()


def test_minimums_that_would_be_negative_become_zero():
    values, importance = groups()
    grids = Grids(np.abs(values) + 2, importance, UNSIGNED, True)
    grids.search(STARTS)
    assert (grids.minimums >= 0).all()
    assert (grids.minimums == 0).mean() > 0.5
    assert (losses(grids, UNSIGNED) < 0.02 * (importance * grids.values**2).sum(0)).all()


@pytest.mark.parametrize(
    ("codes", "minimums", "share"), [(UNSIGNED, True, 1.35), (range(4), True, 1.4), (SIGNED, False, 1.3)]
)
def test_the_search_comes_close_to_a_dense_one(codes, minimums, share):
    """On average the error is within this share of what ninety times as many starts find."""
    values, importance = groups()
    grids, dense = (Grids(values, importance, codes, minimums) for _ in range(2))
    grids.search(((0.85, 0.5), (0.95, 0), (1, 0), (1.1, 0), (1.1, 1), (1.5, 0.5)))
    dense.search(tuple((narrower, where) for narrower in np.linspace(0.7, 2.5, 60) for where in np.linspace(0, 1, 9)))
    ours, theirs = losses(grids, codes), losses(dense, codes)
    assert ours.mean() <= share * theirs.mean()
    assert (theirs <= ours * 1.001).mean() > 0.9


def test_more_starts_never_lose():
    values, importance = groups()
    few, more = (Grids(values, importance, UNSIGNED, True) for _ in range(2))
    few.search(STARTS[:1])
    more.search(STARTS)
    # gains are kept for the codes before the last fit; with codes rounded anew the error can only be smaller
    assert losses(more, UNSIGNED).sum() <= losses(few, UNSIGNED).sum()


@pytest.mark.parametrize(("codes", "minimums"), [(UNSIGNED, True), (SIGNED, False)])
@pytest.mark.parametrize("value", [0.0, 0.7, -0.7])
def test_constant_groups_are_met(codes, minimums, value):
    values = np.full((16, 3), value, np.float32)
    grids = Grids(values, np.ones_like(values), codes, minimums)
    grids.search(STARTS)
    np.testing.assert_allclose(losses(grids, codes), 0, atol=1e-8)


def test_weights_that_do_not_count_change_nothing():
    values, importance = groups()
    importance[5:] = 0
    fitted = []
    for filler in (0.0, 0.3):
        values[5:] = filler
        grids = Grids(values, importance, range(4), True)
        fitted.append(grids.fit(np.full(30, 1.0, np.float32), np.full(30, 1.5, np.float32)))
    np.testing.assert_array_equal(fitted[0], fitted[1])


def test_groups_without_any_importance_stay_zero():
    values, importance = groups()
    grids = Grids(values, 0 * importance, UNSIGNED, True)
    grids.search(STARTS)
    assert not grids.scales.any()
    assert not grids.minimums.any()


def test_the_inverse_of_zero_is_zero():
    np.testing.assert_array_equal(inverse(np.array([0, 2, -4, 1e-40], np.float32)), [0, 0.5, -0.25, 0])
