"""E2M1, E4M3 and E8M0: against the numbers of the specification, and to the last bit what MLX computes on a CPU."""

import itertools

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.quantizers.numerics.microscaled_formats import (
    E2M1,
    FORMATS,
    decoded,
    e2m1_codes,
    e4m3_codes,
    e4m3_values,
    e8m0_codes,
    e8m0_values,
    rounded,
)

RANGE = {"mxfp4": (2.0**-110, 2.0**127), "mxfp8": (2.0**-110, 2.0**127), "nvfp4": (0.0, 6 * 448.0)}
FINITE = [code for code in range(256) if code & 127 != 127]


def specified(code, exponent_bits, fraction_bits, bias):
    """A code's number, from its sign, exponent and fraction, as the specification writes them."""
    sign = -1 if code >> exponent_bits + fraction_bits else 1
    exponent, fraction = divmod(code % 2 ** (exponent_bits + fraction_bits), 2**fraction_bits)
    share = fraction / 2**fraction_bits
    return sign * (share * 2.0 ** (1 - bias) if exponent == 0 else (1 + share) * 2.0 ** (exponent - bias))


def test_the_numbers_are_those_of_the_specification():
    assert E2M1.tolist() == [specified(code, 2, 1, 1) for code in range(16)]
    assert e4m3_values(np.array(FINITE, np.uint8)).tolist() == [specified(code, 4, 3, 7) for code in FINITE]
    assert e8m0_values(np.arange(255, dtype=np.uint8)).tolist() == [2.0 ** (code - 127) for code in range(255)]


def test_every_number_is_its_own_code():
    assert e2m1_codes(E2M1).tolist() == [code if code != 8 else 0 for code in range(16)]  # no negative zero
    assert e4m3_codes(e4m3_values(np.array(FINITE, np.uint8))).tolist() == FINITE
    assert e8m0_codes(e8m0_values(np.arange(255, dtype=np.uint8))).tolist() == list(range(255))


def test_between_two_numbers_the_nearest_is_taken():
    for values, codes_of in ((E2M1[:8], e2m1_codes), (e4m3_values(np.arange(127, dtype=np.uint8)), e4m3_codes)):
        for code, (low, high) in enumerate(itertools.pairwise(values)):
            middle = (low + high) / 2
            near = np.array([np.nextafter(middle, low), np.nextafter(middle, high)], np.float32)
            assert codes_of(near).tolist() == [code, code + 1]
            tie = code if codes_of is e2m1_codes else code + code % 2  # towards zero, and to the even code
            assert codes_of(np.array([middle], np.float32)).tolist() == [tie]


def test_what_lies_beyond_the_largest_number_becomes_it():
    assert e2m1_codes(np.array([1e30, -1e30], np.float32)).tolist() == [7, 15]
    assert e4m3_codes(np.array([449, 1e30, -1e30], np.float32)).tolist() == [126, 126, 254]


@given(st.integers(-126, 126), st.integers(0, 2**23 - 1))
def test_a_power_of_two_is_the_smallest_that_is_not_below(exponent, fraction):
    size = np.ldexp(np.float32(1 + fraction / 2**23), exponent)
    found = e8m0_values(e8m0_codes(np.array([size])))[0]
    assert found / 2 < size <= found


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_e4m3_is_rounded_as_another_implementation_rounds_it(numbers):
    values = np.array(numbers, np.float32)
    expected = np.clip(values, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    assert e4m3_codes(values).tolist() == expected.view(np.uint8).tolist()


def spread(rng, shape):
    return rng.standard_normal(shape) * np.exp(rng.choice([0, 1, 4]) * rng.standard_normal(shape))


def tied(rng, shape):
    """Multiples of an eighth: many lie halfway between two numbers."""
    return rng.integers(-64, 65, shape) / 8


def mostly_zero(rng, shape):
    return np.where(rng.random(shape) < 0.1, rng.standard_normal(shape), 0) * (rng.random((shape[0], 1)) < 0.7)


def any_exponent(rng, shape):
    return np.ldexp(rng.standard_normal(shape), rng.integers(-30, 31, shape))


def by_mlx(weight, name):
    form = FORMATS[name]
    kind = {"group_size": form.group, "bits": form.bits, "mode": name}
    with mx.stream(mx.cpu):
        packed, scales = mx.quantize(mx.array(weight), **kind)
        dense = mx.dequantize(packed, scales, **kind, dtype=mx.float32)
        return np.array(packed), np.array(scales), np.array(dense)


def within(numbers, name):
    """float32 numbers in the range of magnitudes that a format takes."""
    least, most = RANGE[name]
    weight = np.clip(numbers, -most, most).astype(np.float32)
    return np.where(np.abs(weight) < least, np.float32(0), weight)


def assert_as_mlx(weight, name):
    packed, scales, dense = by_mlx(weight, name)
    ours = rounded(weight, FORMATS[name])
    np.testing.assert_array_equal(ours[0], packed)
    np.testing.assert_array_equal(ours[1], scales)
    np.testing.assert_array_equal(decoded(packed, scales, FORMATS[name]).view(np.uint32), dense.view(np.uint32))


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from((spread, tied, mostly_zero, any_exponent)),
    st.integers(1, 9),
    st.integers(1, 6),
    st.integers(-115, 126),
    st.integers(0, 2**32 - 1),
)
def test_codes_scales_and_what_they_decode_to_are_mlx_s(name, values, rows, groups, exponent, seed):
    numbers = values(np.random.default_rng(seed), (rows, 32 * groups))
    assert_as_mlx(within(np.ldexp(numbers, exponent if name != "nvfp4" else exponent % 22 - 12), name), name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_matrix_of_several_blocks_is_rounded_as_by_mlx(name):
    assert_as_mlx((np.random.default_rng(0).standard_normal((601, 1536)) * 0.02).astype(np.float32), name)


@pytest.mark.parametrize("name", FORMATS)
def test_every_scale_that_is_written_decodes_as_by_mlx(name):
    """Each code of an element with each code of a scale that is a finite number."""
    form = FORMATS[name]
    scales = np.arange(255 if form.powers_of_two else 127, dtype=np.uint8)
    codes = FINITE if form.bits == 8 else range(256)  # or pairs of codes
    elements = np.array(codes, np.uint8)
    elements = np.pad(elements, (0, -len(elements) % 32))
    packed = np.broadcast_to(elements, (len(scales), len(elements))).copy().view(np.uint32)
    held = np.repeat(scales[:, None], packed.shape[1] * 32 // form.bits // form.group, 1)
    with mx.stream(mx.cpu):
        kind = {"group_size": form.group, "bits": form.bits, "mode": name}
        dense = np.array(mx.dequantize(mx.array(packed), mx.array(held), **kind, dtype=mx.float32))
        np.testing.assert_array_equal(decoded(packed, held, form).view(np.uint32), dense.view(np.uint32))
