"""Layers of integers and of small floats in blocks: MLX's kernels on what they describe, held to `decode`."""

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from candidate_folders import bit_stream

from pytest_quantbench.checkpoints.formats.float_codecs import E2M3, Float8, MxFloats, NvFloat4
from pytest_quantbench.checkpoints.formats.integer_codec import (
    Integers,
    RuledIntegers,
    loose_codes,
    loose_words_of,
    stream,
    unpacked,
)
from pytest_quantbench.checkpoints.formats.packed_words import words_of
from pytest_quantbench.engines.mlx.layers import decoded, module
from pytest_quantbench.quantizers import Fixed, PerToken

RANDOM = np.random.default_rng(11)
ROWS, COLUMNS = 64, 256


def integers(bits, block, *, zeros, dtype=np.float16, kind=Integers, **fields):
    """A codec, and random arrays for it."""
    blocks = (-(-ROWS // block[0]), -(-COLUMNS // block[1]))
    arrays = {
        "codes": bit_stream(RANDOM.integers(0, 2**bits, (ROWS, COLUMNS)), bits),
        "scales": RANDOM.uniform(0.001, 0.002, blocks).astype(dtype),
    }
    if zeros:
        arrays["zeros"] = RANDOM.integers(0, 2**bits, blocks).astype(np.int16)
    return kind(bits=bits, block=block, in_features=COLUMNS, **fields), arrays


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("block", [(1, 32), (1, 64), (1, 128), (1, COLUMNS), (ROWS, COLUMNS), (48, 96), (32, 128)])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_a_grid_is_what_is_decoded(bits, block, zeros, dtype):
    codec, arrays = integers(bits, block, zeros=zeros, dtype=dtype)
    layer, dense = codec.layer(arrays), codec.decode(arrays)
    assert layer.is_grid_alone
    found = np.array(decoded(layer))
    if dtype != np.float32:
        np.testing.assert_array_equal(found, dense)  # products of two short fractions are exact
    else:
        # the bias, the product and the sum are rounded, each to half a place of the largest value
        np.testing.assert_allclose(found, dense, atol=3 * 2.0**-24 * 2**bits * 0.002)
    assert layer.grid.scales.dtype == (np.float32 if zeros else dtype)


@pytest.mark.parametrize(
    ("bits", "block", "beside"),
    [(7, (1, 64), {}), (4, (1, 16), {}), (4, (1, 40), {}), (4, (1, 64), {"g_idx": np.arange(COLUMNS) // 64})],
)
def test_what_mlx_has_no_grid_for_runs_decoded(bits, block, beside):
    codec, arrays = integers(bits, block, zeros=True)
    assert codec.layer(arrays | beside) is None
    assert codec.decode(arrays | beside).shape == (ROWS, COLUMNS)


def test_large_float16_scales_get_a_bias_that_is_finite():
    codec, arrays = integers(8, (1, 64), zeros=False)
    arrays["scales"][:] = 1000
    layer = codec.layer(arrays)
    assert layer.grid.biases.dtype == np.float32
    np.testing.assert_array_equal(np.array(decoded(layer)), codec.decode(arrays))


@pytest.mark.parametrize("block", [(1, 64), (1, 40)])
def test_a_rule_for_inputs_is_there_with_a_grid_and_without(block):
    codec, arrays = integers(8, block, zeros=False, kind=RuledIntegers, input_bits=8)
    inputs = RANDOM.normal(size=(3, COLUMNS)).astype(np.float32)
    for beside, rule in (
        ({}, PerToken(bits=8)),
        ({"input_scale": np.array([0.02], np.float32), "input_zero": np.array([3], np.int8)},
         Fixed(step=float(np.float32(0.02)), zero=131, bits=8)),
    ):  # fmt: skip
        layer = codec.layer(arrays | beside)
        assert (layer.input_rule, layer.grid is None) == (rule, block == (1, 40))
        found = module(layer, lambda: codec.decode(arrays))(mx.array(inputs))
        np.testing.assert_allclose(np.array(found), rule.rounded(inputs) @ codec.decode(arrays).T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [8, 9])
@pytest.mark.parametrize("bits", [4, 8])
def test_microscaled_floats(bits, rows):
    codes = RANDOM.integers(0, 0x7F, (rows, 96 * bits // 8)).astype(np.uint8)
    arrays = {"codes": codes, "scales": RANDOM.integers(110, 130, (rows, 3)).astype(np.uint8)}
    codec = MxFloats(bits=bits, in_features=96)
    np.testing.assert_array_equal(np.array(decoded(codec.layer(arrays))), codec.decode(arrays))


def test_nvfp4_has_one_scale_for_its_outputs():
    arrays = {
        "codes": RANDOM.integers(0, 256, (6, 24)).astype(np.uint8),
        "scales": RANDOM.uniform(1, 400, (6, 3)).astype(ml_dtypes.float8_e4m3fn).view(np.uint8),
        "global_scale": np.array([3000.0], np.float32),
    }
    codec = NvFloat4(in_features=48)
    np.testing.assert_allclose(np.array(decoded(codec.layer(arrays))), codec.decode(arrays), rtol=3e-7)
    odd = {name: array[:3] for name, array in arrays.items()}
    assert codec.layer(odd) is None  # 9 groups of 16: MLX takes them in pairs
    np.testing.assert_array_equal(codec.decode(odd), codec.decode(arrays)[:3])


def test_six_bits_are_known():
    # four codes in three bytes, first in the lowest bits: 1, 7.5, −0.125 and 4
    codes = np.frombuffer((0b001000 | 0b011111 << 6 | 0b100001 << 12 | 0b011000 << 18).to_bytes(3, "little"), np.uint8)
    assert E2M3[[0b001000, 0b011111, 0b100001, 0b011000]].tolist() == [1, 7.5, -0.125, 4]
    arrays = {"codes": np.tile(codes, (2, 8)), "scales": np.array([[127], [128]], np.uint8)}
    codec = MxFloats(bits=6, in_features=32)
    assert codec.decode(arrays).tolist() == [[1, 7.5, -0.125, 4] * 8, [2, 15, -0.25, 8] * 8]
    assert codec.layer(arrays) is None


def test_eight_bits_in_blocks():
    codes = RANDOM.normal(size=(5, 7)).astype(ml_dtypes.float8_e4m3fn)
    scales = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    codec = Float8(block=(3, 3), in_features=7)
    dense = codec.decode({"codes": codes.view(np.uint8), "scales": scales})
    wide = [[scales[row // 3, column // 3] for column in range(7)] for row in range(5)]
    np.testing.assert_array_equal(dense, codes.astype(np.float32) * np.array(wide))
    assert codec.layer({}) is None


@pytest.mark.parametrize("count", [1, 10, 33, 64, 100])
@pytest.mark.parametrize("bits", range(1, 9))
def test_words_of_codes(bits, count):
    codes = RANDOM.integers(0, 2**bits, (3, count)).astype(np.uint8)
    words = bit_stream(codes, bits)
    assert words.shape == (3, words_of(count, bits))
    np.testing.assert_array_equal(stream(codes, bits), words, strict=True)
    np.testing.assert_array_equal(unpacked(words, bits, count), codes)
    of_word = 32 // bits
    padded = np.pad(codes, ((0, 0), (0, -count % of_word))).reshape(-1, of_word)
    loose = bit_stream(padded, bits).reshape(3, -1)
    assert loose.shape == (3, loose_words_of(count, bits))
    np.testing.assert_array_equal(loose_codes(loose, bits, count), codes, strict=True)
