"""Error feedback against slow references: column by column, as the papers state it."""

import numpy as np
import pytest

from pytest_quantbench.quantizers.numerics import error_feedback


def problem(size=48, tokens=40, seed=0):
    """A weight (out, in) and a rank-deficient Hessian with one input that was always zero."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((tokens, size)) * np.exp(rng.standard_normal(size))
    inputs[:, 3] = 0
    return rng.standard_normal((8, size)).astype(np.float32), inputs.T @ inputs / tokens


def test_damping_makes_it_positive_definite_and_leaves_the_original():
    _, hessian = problem()
    before = hessian.copy()
    damped = error_feedback.damped(hessian, 0.01)
    assert np.linalg.eigvalsh(damped).min() > 0
    np.testing.assert_array_equal(hessian, before)
    assert damped[3, 3] > np.diag(hessian).mean()
    np.testing.assert_array_equal(error_feedback.damped(np.zeros((2, 2)), 0.01), 1.01 * np.eye(2))


def test_the_factor_is_that_of_the_inverse():
    hessian = error_feedback.damped(problem()[1], 0.01)
    factor = error_feedback.inverse_factor(hessian)
    np.testing.assert_array_equal(factor, np.triu(factor))
    np.testing.assert_allclose(factor.T @ factor @ hessian, np.eye(len(hessian)), atol=1e-10)


def slow_sweep(weight, hessian, block, grid):
    """After each block: the other columns move to the minimum of the output error, found by a fresh solve."""
    current, decoded = weight.astype(np.float64).copy(), np.zeros(weight.shape)
    size = weight.shape[1]
    for start in range(0, size, block):
        stop = start + block
        decoded[:, start:stop] = np.round(current[:, start:stop] / grid) * grid
        error = weight - np.concatenate([decoded[:, :stop], np.zeros((len(weight), size - stop))], axis=1)
        # the free columns f minimise tr((e_done, w_f − v) H (…)ᵀ): w_f − v = −e_done H_df H_ff⁻¹
        done, free = slice(0, stop), slice(stop, size)
        if stop < size:
            shift = error[:, done] @ hessian[done, free] @ np.linalg.inv(hessian[free, free])
            current[:, free] = weight[:, free] + shift
    return decoded


@pytest.mark.parametrize("block", [1, 8])
@pytest.mark.parametrize("size", [48, 80])
def test_the_sweep_is_the_optimal_correction_after_every_block(block, size):
    weight, hessian = problem(size, tokens=2 * size)
    hessian = error_feedback.damped(hessian, 0.01)
    correction, metric = error_feedback.feedback(hessian, block)
    decoded = error_feedback.sweep(
        np.ascontiguousarray(weight.T), correction, block, lambda _, columns: np.round(columns / 0.5) * np.float32(0.5)
    )
    expected = slow_sweep(weight, hessian, block, 0.5)
    assert (np.abs(decoded.T - expected) < 1e-6).mean() > 0.995  # float32 may fall to the other side of a tie
    assert metric.shape == (size // block, block, block)


@pytest.mark.parametrize("block", [1, 8])
def test_the_metric_is_the_cost_of_an_error_that_later_columns_make_up_for(block):
    _, hessian = problem(24, tokens=60)
    hessian = error_feedback.damped(hessian, 0.01)
    _, metric = error_feedback.feedback(hessian, block)
    for index, start in enumerate(range(0, 24, block)):
        here, free = slice(start, start + block), slice(start + block, 24)
        schur = hessian[here, here] - hessian[here, free] @ np.linalg.inv(hessian[free, free]) @ hessian[free, here]
        np.testing.assert_allclose(metric[index], schur, rtol=1e-4, atol=1e-6)


def test_without_correlations_nothing_is_corrected():
    weight, _ = problem()
    correction, _ = error_feedback.feedback(np.eye(48), 1)
    np.testing.assert_array_equal(correction, np.eye(48))
    decoded = error_feedback.sweep(np.ascontiguousarray(weight.T), correction, 1, lambda _, columns: np.round(columns))
    np.testing.assert_array_equal(decoded.T, np.round(weight))


def test_output_error_is_the_trace():
    weight, hessian = problem()
    assert error_feedback.output_error(weight, hessian) == pytest.approx(
        np.trace(weight @ hessian @ weight.T), rel=1e-5
    )
