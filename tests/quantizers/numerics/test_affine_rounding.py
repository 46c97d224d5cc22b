"""Rounding and decoding on the affine grid: to the last bit what MLX computes on a CPU, whatever the weights."""

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.quantizers.numerics.affine_rounding import decoded, rounded
from pytest_quantbench.quantizers.numerics.bit_packing import pack

BITS, GROUPS = (2, 3, 4, 5, 6, 8), (32, 64, 128)
KINDS = (np.float16, ml_dtypes.bfloat16, np.float32)


def gaussian(rng, shape):
    return rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 4)


def tied(rng, shape):
    """Few distinct values, at equal distances: many lie halfway between two levels."""
    return rng.integers(-8, 9, shape) * 2.0 ** rng.integers(-12, 3)


def heavy(rng, shape):
    return rng.standard_normal(shape) * np.exp(3 * rng.standard_normal(shape))


def one_sided(rng, shape):
    return rng.choice([-1, 1]) * (rng.random(shape) + rng.choice([0, 1, 100]))


def constant(rng, shape):
    return np.broadcast_to(rng.standard_normal((shape[0], 1)) * 10.0 ** rng.integers(-8, 3), shape)


def mostly_zero(rng, shape):
    return np.where(rng.random(shape) < 0.02, rng.standard_normal(shape), 0) * (rng.random((shape[0], 1)) < 0.7)


def any_bits(rng, shape):
    """Every exponent there is: subnormal, tiny, huge, and zeros of either sign."""
    numbers = np.ldexp(rng.standard_normal(shape), rng.integers(-140, 126, shape))
    return np.where(rng.random(shape) < 0.1, np.copysign(0, numbers), numbers)


VALUES = (gaussian, tied, heavy, one_sided, constant, mostly_zero, any_bits)


def finite(numbers, kind):
    limit = float(ml_dtypes.finfo(kind).max)
    return np.clip(numbers, -limit, limit).astype(kind)


def by_mlx(weight, group, bits):
    """Packed bytes, scales, biases and the decoded matrix of MLX's CPU kernels."""
    with mx.stream(mx.cpu):
        packed, *grids = mx.quantize(mx.array(weight), group_size=group, bits=bits)
        dense = mx.dequantize(packed, *(each.astype(mx.float32) for each in grids), group_size=group, bits=bits)
        scales, biases = (np.array(each.astype(mx.float32)).astype(weight.dtype) for each in grids)
        return np.array(packed).view(np.uint8), scales, biases, np.array(dense)


def same_bits(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(np.ascontiguousarray(found).view(np.uint8), expected.view(np.uint8))


def assert_as_mlx(weight, group, bits):
    packed, scales, biases, dense = by_mlx(weight, group, bits)
    codes, *grids = rounded(weight, group, bits)
    same_bits(pack(codes, bits), packed)
    same_bits(grids[0], scales)
    same_bits(grids[1], biases)
    ours = decoded(packed, scales, biases, bits)
    same_bits(np.where(np.isnan(ours), 0, ours), np.where(np.isnan(dense), 0, dense))
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(dense))


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(BITS),
    st.sampled_from(GROUPS),
    st.sampled_from(KINDS),
    st.sampled_from(VALUES),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_codes_scales_biases_and_what_they_decode_to_are_mlx_s(bits, group, kind, values, rows, groups, seed):
    numbers = values(np.random.default_rng(seed), (rows, groups * group))
    assert_as_mlx(finite(numbers, kind), group, bits)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(BITS), st.lists(st.integers(0, 2**16 - 1), min_size=64, max_size=64), st.sampled_from(KINDS[:2]))
def test_any_64_finite_16_bit_numbers_are_rounded_as_by_mlx(bits, patterns, kind):
    numbers = np.array([patterns], np.uint16).view(kind).astype(np.float32)
    assert_as_mlx(finite(np.nan_to_num(numbers), kind), 32, bits)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_matrix_of_several_blocks_is_rounded_as_by_mlx(bits, kind):
    weight = finite(np.random.default_rng(bits).standard_normal((601, 1536)) * 0.02, kind)
    assert_as_mlx(weight, 64, bits)


def test_the_grid_of_a_known_group():
    """−3 is furthest from zero: it and zero lie on the grid of 15 steps, of which 9 reach from −3 to 0."""
    weight = np.zeros((1, 32), np.float32)
    weight[0, :3] = -3, 2, 1
    codes, scales, biases = rounded(weight, 32, 4)
    np.testing.assert_allclose(scales, 3 / 9, rtol=1e-6)
    assert biases == -3
    assert codes[0, :4].tolist() == [0, 15, 12, 9]
