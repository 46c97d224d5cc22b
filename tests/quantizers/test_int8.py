"""INT8 rows against a slow reference, and at the ends of every number format."""

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from quantizers.contract import layer_outputs, native

from pytest_quantbench.quantizers.int8 import Int8

SHAPES = [(64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33), (300, 96)]
INT8 = Int8()


def gaussian(shape, seed=0, deviation=0.02, dtype=ml_dtypes.bfloat16):
    return (deviation * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def as_numpy(array):
    return array.astype(np.float32)


def encoded(weight):
    arrays = INT8.encode(weight, None, 0)
    return arrays, np.array(INT8.decode(arrays))


def slow_int8(weight):
    """Row by row: the float16 scale that puts the largest magnitude on 127, then the nearest multiple of it."""
    decoded = np.zeros(weight.shape, np.float64)
    for i, row in enumerate(weight):
        scale = float(np.float16(max(abs(float(x)) for x in row) / 127))
        for j, x in enumerate(row):
            decoded[i, j] = max(-127, min(127, round(float(x) / scale))) * scale
    return decoded


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_slow_reference(shape, seed):
    weight = gaussian(shape, seed, deviation=2)  # no row's scale is outside float16
    np.testing.assert_allclose(encoded(weight)[1], slow_int8(as_numpy(weight)), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_eight_bits_and_a_scale_per_row_are_stored(shape):
    arrays, _ = encoded(gaussian(shape, deviation=2))
    assert sum(array.nbytes for array in arrays.values()) == shape[0] * shape[1] + 2 * shape[0]
    assert INT8.note(shape, {}) == ""


def test_every_code_but_the_lowest_is_used():
    codes = np.array(encoded(gaussian((512, 2048)))[0]["codes"])
    assert set(np.unique(codes)) == set(range(-127, 128))


@pytest.mark.parametrize(("shape", "expected", "tolerance"), [((64, 64), 44.48, 0.75), ((128, 4096), 41.2, 0.2)])
def test_gaussian_snr_is_the_known_one(shape, expected, tolerance):
    """64 × 64: standard deviation 0.18 over draws; long rows have larger extremes and so a lower SNR."""
    for seed in range(3):
        weight = gaussian(shape, seed, dtype=np.float32)
        _, decoded = encoded(weight)
        error = decoded.astype(np.float64) - as_numpy(weight)
        snr = 10 * np.log10((as_numpy(weight) ** 2).sum() / (error**2).sum())
        assert snr == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_error_is_larger_than_half_a_step(shape, dtype):
    weight = gaussian(shape, 3, dtype=dtype)
    original = as_numpy(weight)
    steps = np.abs(original).max(axis=1, keepdims=True) / 127
    assert (np.abs(encoded(weight)[1] - original) <= 0.57 * steps).all()  # a scale rounded down adds 127 × 2⁻¹¹ steps


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("deviation", [0.02, 1e-6, 1e5])
def test_the_native_layer_agrees_with_decode(shape, deviation):
    arrays, decoded = encoded(gaussian(shape, 1, deviation))
    x = np.random.default_rng(2).standard_normal((2, 3, shape[1])).astype(np.float32)
    expected = x @ decoded.T
    assert np.abs(layer_outputs(INT8, arrays, x) - expected).max() <= 1e-4 * np.abs(expected).max()
    assert native(INT8, arrays, mx.bfloat16)(mx.array(x).astype(mx.bfloat16)).dtype == mx.bfloat16


@pytest.mark.parametrize("power", [-100, -24, -6, 2, 20, 100])
def test_scaling_by_a_power_of_two_scales_the_result_exactly(power):
    weight = gaussian((16, 96), dtype=np.float32)
    scaled = np.ldexp(as_numpy(weight), power)
    np.testing.assert_array_equal(encoded(scaled)[1], np.ldexp(encoded(weight)[1], power))


def test_powers_are_stored_only_where_float16_is_not_enough():
    arrays, _ = encoded(gaussian((4, 64)))
    assert set(arrays) == {"codes", "scales"}
    weight = as_numpy(gaussian((4, 64), dtype=np.float32)) * np.array([[1], [1e-7], [1e7], [0]], np.float32)
    arrays, decoded = encoded(weight)
    exponents = np.array(arrays["exponents"])[:, 0]
    assert exponents[1] < 0 < exponents[2]
    assert exponents[0] == exponents[3] == 0
    assert (np.abs(decoded - weight) <= 0.0045 * np.abs(weight).max(axis=1, keepdims=True)).all()


@pytest.mark.parametrize("value", [0.0, 0.75, -3.0, 1e-30, -1e30])
def test_constant_matrices_survive(value):
    np.testing.assert_allclose(encoded(np.full((8, 64), value, ml_dtypes.bfloat16))[1], value, rtol=0.005)


@pytest.mark.parametrize("outlier", [1e4, -3e38])
def test_an_outlier_costs_only_its_row(outlier):
    weight = as_numpy(gaussian((16, 64), dtype=np.float32))
    calm = encoded(weight)[1]
    weight[3, 5] = outlier
    _, decoded = encoded(weight)
    np.testing.assert_array_equal(np.delete(decoded, 3, axis=0), np.delete(calm, 3, axis=0))
    assert decoded[3, 5] == pytest.approx(outlier, rel=0.005)


@pytest.mark.parametrize("deviation", [1e-37, 1e-40, 1e-44])
def test_subnormal_weights_stay_finite_and_small(deviation):
    weight = (deviation * np.random.default_rng(0).standard_normal((8, 64))).astype(np.float32)
    _, decoded = encoded(weight)
    assert np.isfinite(decoded).all()
    assert np.abs(decoded - weight).max() <= np.abs(weight).max()
