"""Quantized low-rank products against numpy's SVD and loops over single entries."""

from itertools import pairwise

import numpy as np
import pytest

from pytest_quantbench.quantizers import LowRank
from pytest_quantbench.quantizers.numerics import low_rank
from pytest_quantbench.quantizers.numerics.grid_fitting import rounded

HALF = np.float16


def gaussian(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def planted(rank=3, rows=96, columns=160, noise=0.1):
    return gaussian((rows, rank), 1) @ gaussian((rank, columns), 2) + noise * gaussian((rows, columns), 3)


def start(dense, rank, bits, weights=None):
    left, right = (low_rank.quantized(side, bits, HALF) for side in low_rank.principal(dense, weights, rank, 0))
    return left, right


def error(dense, factors, weights=None):
    return float(
        ((dense - low_rank.product(low_rank.values(factors))) ** 2 * (1 if weights is None else weights)).sum()
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_the_principal_components_are_those_of_the_svd(weighted):
    dense, weights = planted(), np.exp(gaussian(160, 4)) if weighted else None
    left, right = low_rank.principal(dense, weights, 3, 0)
    gains = 1 if weights is None else np.sqrt(weights)
    u, s, v = np.linalg.svd(dense * gains, full_matrices=False)
    np.testing.assert_allclose(left.T @ right * gains, (u[:, :3] * s[:3]) @ v[:3], atol=1e-3 * s[0])
    assert 0.1 < left.std() < 10


def test_columns_without_weight_get_no_components():
    weights = np.ones(160, np.float32)
    weights[100:] = 0
    _, right = low_rank.principal(planted(), weights, 3, 0)
    np.testing.assert_array_equal(right[:, 100:], 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_step_comes_closer_until_it_is_the_svd(weighted):
    dense, weights = planted(noise=1), np.exp(gaussian(160, 4)) if weighted else None
    gains = np.ones(160) if weights is None else np.sqrt(weights)
    right, left_over = gaussian((3, 160), 5), []
    for _ in range(30):
        left, right = low_rank.closer(right, dense, weights)
        left_over.append((((dense - left.T @ right) * gains) ** 2).sum())
    assert all(later <= sooner * (1 + 1e-6) for sooner, later in pairwise(left_over))
    sizes = np.linalg.svd(dense * gains, compute_uv=False)
    assert left_over[-1] == pytest.approx((sizes[3:] ** 2).sum(), rel=1e-3)
    np.testing.assert_allclose(left @ left.T, 96 * np.eye(3), atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(right * gains, axis=1) * np.sqrt(96), sizes[:3], rtol=1e-3)


@pytest.mark.parametrize("scale", [0, 1e-9, 1, 1e9])
def test_components_that_are_not_there_come_out_as_nothing(scale):
    dense = np.float32(scale) * gaussian((8, 1)) @ gaussian((1, 12))
    left, right = low_rank.principal(dense, None, 4, 0)
    assert left.shape == (4, 8)
    np.testing.assert_allclose(left.T @ right, dense, atol=1e-5 * scale)
    assert np.abs(right[1:]).max() <= 1e-5 * scale


def slow_quantized(values, bits):
    """Entry by entry: of four scales the one with the least squared error, the largest entry on the lowest code."""
    decoded = np.empty_like(values)
    half = 2 ** (bits - 1)
    for row in range(len(values)):
        for first in range(0, values.shape[1], low_rank.GROUP):
            part = values[row, first : first + low_rank.GROUP]
            largest = max(part, key=abs)
            best = None
            for share in (1.0, 0.9, 0.8, 0.7):
                scale = rounded(np.float32([largest * np.float32(share) / -half]), HALF)[0]
                found = np.array([min(max(round(float(x / scale)), -half), half - 1) * scale for x in part])
                loss = ((found - part) ** 2).sum()
                if best is None or loss < best[0]:
                    best = loss, found
            decoded[row, first : first + low_rank.GROUP] = best[1]
    return decoded


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_factors_agree_with_a_slow_reference(bits):
    values = gaussian((3, 150))
    np.testing.assert_allclose(low_rank.quantized(values, bits, HALF).values, slow_quantized(values, bits), rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_factors_survive_storage_and_cost_what_they_say(bits):
    factors = start(planted(), 3, bits)
    arrays = low_rank.store(factors, -9, HALF)
    found = low_rank.compensator(arrays, 96, 160)
    np.testing.assert_allclose(found.left.T @ found.right * 512, low_rank.product(low_rank.values(factors)), atol=1e-5)
    largest = [np.abs(arrays[name].astype(np.float32)).max() for name in ("left_scales", "right_scales")]
    assert 0.2 < largest[0] / largest[1] < 5
    assert 8 * sum(array.nbytes for array in arrays.values()) == sum(factor.stored_bits for factor in factors)
    assert low_rank.cost(2, 65, 4) == 2 * (128 * 4 + 32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_refitting_finds_the_principal_components_from_anywhere(bits, weighted):
    dense, weights = planted(), np.exp(gaussian(160, 4)) if weighted else None
    factors = tuple(low_rank.quantized(gaussian((3, size), size), bits, HALF) for size in dense.shape)
    errors = [error(dense, factors, weights)]
    for _ in range(8):
        factors = low_rank.refitted(factors, dense, weights, HALF)
        errors.append(error(dense, factors, weights))
    assert errors[1] < 0.5 * errors[0]
    assert errors[-1] < 1.1 * error(dense, start(dense, 3, bits, weights), weights)


@pytest.mark.parametrize("bits", [4, 8])
def test_refitting_makes_up_for_quantization(bits):
    dense = planted(noise=0.01)
    factors = start(dense, 3, bits)
    before = error(dense, factors)
    for _ in range(3):
        factors = low_rank.refitted(factors, dense, None, HALF)
    assert error(dense, factors) < before


def test_each_component_is_at_its_optimum_beside_the_others():
    """With 8 bits the refitted side is nearly the exact least-squares solution."""
    dense = planted()
    factors = start(dense, 3, 8)
    for _ in range(8):
        left, _ = low_rank.refitted(factors, dense, None, HALF)
        factors = (left, factors[1])
    exact = np.linalg.lstsq(factors[1].values.T, dense.T, rcond=None)[0]
    assert np.abs(factors[0].values - exact).max() < 0.02 * np.abs(exact).max()


def test_rank_beyond_what_is_there_and_zeros():
    dense = gaussian((5, 1))
    factors = start(dense, 4, 8)
    assert len(factors[0].values) == len(factors[1].values) == 1
    assert error(dense, low_rank.refitted(factors, dense, None, HALF)) < 1e-3
    nothing = low_rank.refitted(start(np.zeros((8, 8), np.float32), 2, 4), np.zeros((8, 8), np.float32), None, HALF)
    assert error(np.zeros((8, 8)), nothing) == 0


def test_without_a_stored_product_nothing_is_added():
    assert low_rank.compensator({}, 6, 10) is None


def test_the_product_is_summed_in_the_order_of_its_components():
    """To the last bit as one component after the other gives it, on a matrix of several blocks."""
    left, right, dense = gaussian((5, 700)), gaussian((5, 1000), 1), gaussian((700, 1000), 2)
    total = np.zeros((700, 1000), np.float32)
    for component in range(5):
        total += np.multiply.outer(left[component], right[component])
    found = dense.copy()
    low_rank.add(found, LowRank(left=left, right=right))
    np.testing.assert_array_equal(found, dense + total)
    np.testing.assert_allclose(found, dense + left.T @ right, rtol=1e-4, atol=1e-4)
