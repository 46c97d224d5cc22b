"""Packed codes: round trips, and the layout against MLX's and a slow reference."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.numerics import affine
from pytest_quantbench.quantizers.numerics.bit_packing import pack, unpack

WIDTHS = [*range(1, 9), 10, 12, 14, 16]


def slow_pack(row, bits):
    """The codes' bits one after the other, lowest first, cut into bytes."""
    stream = [int(code) >> place & 1 for code in row for place in range(bits)]
    return [sum(bit << place for place, bit in enumerate(stream[k : k + 8])) for k in range(0, len(stream), 8)]


@given(st.sampled_from(WIDTHS), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_pack_is_a_little_endian_bit_stream_and_unpack_its_inverse(bits, rows, words, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, 8 * words)).astype(np.uint16)
    packed = pack(codes, bits)
    assert packed.tolist() == [slow_pack(row, bits) for row in codes]
    np.testing.assert_array_equal(unpack(packed, bits), codes)
    assert unpack(packed, bits).dtype == (np.uint8 if bits <= 8 else np.uint16)


@pytest.mark.parametrize("bits", affine.BITS)
def test_mlx_packs_in_the_same_way(bits):
    weight = mx.array(np.random.default_rng(0).standard_normal((16, 256))).astype(mx.bfloat16)
    packed, scales, biases = (np.array(each.astype(kind)) for each, kind in _quantized(weight, bits))
    arrays = affine.store(affine.codes_of({"weight": packed}, bits), scales, biases, bits, 256)
    np.testing.assert_array_equal(arrays["weight"], packed)
    assert arrays.keys() == {"weight", "scales", "biases"}


def _quantized(weight, bits):
    return zip(mx.quantize(weight, group_size=64, bits=bits), (mx.uint32, mx.float32, mx.float32), strict=True)


def test_codes_that_do_not_fill_bytes_are_refused():
    with pytest.raises(QuantbenchError, match="5 codes of 3 bits do not fill whole bytes: pad to a multiple of 8"):
        pack(np.zeros((2, 5), np.uint8), 3)


@pytest.mark.parametrize("bits", [0, 9, 11, 17])
def test_widths_that_cannot_be_packed_are_refused(bits):
    with pytest.raises(QuantbenchError, match=f"{bits} bits cannot be packed; choose"):
        pack(np.zeros((2, 8), np.uint16), bits)
