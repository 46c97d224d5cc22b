"""The affine cache, to the last bit what mlx-lm's quantized cache holds."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import QuantizedKVCache

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.kv import rotation
from pytest_quantbench.quantizers.kv.affine import BITS, Affine


def tokens_of(heads, tokens, channels, seed=0):
    """(heads, tokens, channels) numbers that bfloat16 has, some channels far larger."""
    drawn = np.random.default_rng(seed).standard_normal((heads, tokens, channels)) * np.exp(np.arange(channels) % 5)
    return np.array(mx.array(drawn.astype(np.float32)).astype(mx.bfloat16).astype(mx.float32))


def held_by_mlx_lm(keys, values, bits, group):
    """What mlx-lm's cache gives back of keys and values in bfloat16: decoded in float32, as its kernels do."""
    cache = QuantizedKVCache(group_size=group, bits=bits)
    stored = None
    for start in (0, 5):  # a prompt, then the rest token by token, as mlx-lm stores them
        steps = [slice(0, 5)] if start == 0 else [slice(token, token + 1) for token in range(5, keys.shape[1])]
        for step in steps:
            stored = cache.update_and_fetch(
                *(mx.array(each[None, :, step]).astype(mx.bfloat16) for each in (keys, values))
            )
    return [
        np.array(
            mx.dequantize(codes, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group, bits=bits)
        )[0]
        for codes, scales, biases in stored
    ]


@pytest.mark.parametrize(
    ("bits", "channels"),
    [
        *((bits, 64) for bits in BITS),
        *((bits, 128) for bits in (2, 3, 4, 8)),
    ],  # mlx-lm's cache fails for 5 and 6 at 128
)
def test_it_holds_what_mlx_lm_holds(bits, channels):
    keys, values = tokens_of(2, 9, channels), tokens_of(2, 9, channels, seed=1)
    form = Affine(bits=bits).form(channels)
    for part, numbers, expected in zip(
        ("keys", "values"), (keys, values), held_by_mlx_lm(keys, values, bits, 64), strict=True
    ):
        assert np.array_equal(form.given_back(part, 0, numbers), expected)


@pytest.mark.parametrize(("channels", "group"), [(96, 48), (80, 40), (48, 48), (32, 32), (67, 1), (64, 64), (256, 64)])
def test_heads_that_64_does_not_divide_get_the_largest_group_that_does(channels, group):
    form = Affine(bits=4).form(channels)
    assert form.keys[0].rounding.group == form.values[0].rounding.group == group
    numbers = tokens_of(1, 3, channels)
    back = form.given_back("keys", 0, numbers)
    assert np.abs(back - numbers).max() <= np.abs(numbers).max() / 10


def test_a_group_of_32_is_mlx_s_of_32():
    keys = tokens_of(1, 6, 96)
    expected, _ = held_by_mlx_lm(keys, keys, 4, 32)
    assert np.array_equal(Affine(bits=4, group=32).form(96).given_back("keys", 0, keys), expected)


def test_keys_and_values_may_have_bits_of_their_own():
    form = Affine(key_bits=8, value_bits=4).form(64)
    assert (form.keys[0].rounding.bits, form.values[0].rounding.bits) == (8, 4)


def test_only_keys_are_rotated_and_scores_are_as_without():
    form, plain = Affine(bits=8, rotated=True).form(64), Affine(bits=8).form(64)
    numbers = tokens_of(2, 5, 64)
    turn = rotation(64)
    assert np.allclose(turn @ turn.T, np.eye(64), atol=1e-6)
    assert np.array_equal(form.given_back("values", 0, numbers), plain.given_back("values", 0, numbers))
    stored = plain.given_back("keys", 0, numbers @ turn)
    queries = tokens_of(2, 5, 64, seed=3)
    scores = (queries @ turn) @ stored.swapaxes(1, 2)
    assert np.allclose(queries @ form.given_back("keys", 0, numbers).swapaxes(1, 2), scores, rtol=1e-4, atol=0.5)


@pytest.mark.parametrize("parameters", [{"bits": 7}, {"bits": 1}, {"key_bits": 16}, {"value_bits": 9}])
def test_widths_that_mlx_does_not_have_are_refused(parameters):
    with pytest.raises(QuantbenchError, match=r"MLX's affine grids have one of \(2, 3, 4, 5, 6, 8\)"):
        Affine(**parameters)


def test_heads_without_a_hadamard_matrix_cannot_be_rotated():
    with pytest.raises(QuantbenchError, match="Heads of 67 channels cannot be rotated"):
        Affine(rotated=True).form(67)
