"""Attention and activations in numpy against MLX's own, and against their definitions in float64."""

import importlib

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.engines.mlx.host_kernels import QUERIES, attention, gelu, host_kernels, replaced, silu, swiglu


def drawn(shape, seed):
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def slow(q, k, v, scale, seen):
    """One query at a time; `seen` (batch, heads, L, S) is what is added."""
    q, k, v = (np.array(each).astype(np.float64) for each in (q, k, v))
    shared = q.shape[1] // k.shape[1]
    out = np.zeros((*q.shape[:3], v.shape[-1]))
    for item, head, row in np.ndindex(q.shape[:3]):
        scores = k[item, head // shared] @ q[item, head, row] * scale + seen[item, head, row]
        weights = np.exp(scores - scores.max())
        out[item, head, row] = weights @ v[item, head // shared] / weights.sum()
    return out


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(0, 4), st.integers(0, 99)
)
@pytest.mark.parametrize("kind", [None, "causal", "bool", "added"])
def test_it_is_what_the_definition_says(kind, batch, key_heads, shared, length, before, seed):
    keys = length + before
    q, k = drawn((batch, key_heads * shared, length, 4), seed), drawn((batch, key_heads, keys, 4), seed + 1)
    v = drawn((batch, key_heads, keys, 6), seed + 2)
    visible = np.tril(np.ones((length, keys), bool), keys - length)
    mask = {
        None: None,
        "causal": "causal",
        "bool": mx.array(visible),
        "added": mx.array(np.where(visible, 0.5, -1e9).astype(np.float32)),
    }[kind]
    numbers = np.zeros((length, keys)) if kind is None else np.where(visible, 0.5 * (kind == "added"), -1e9)
    expected = slow(q, k, v, 0.3, np.broadcast_to(numbers, (batch, key_heads * shared, length, keys)))
    np.testing.assert_allclose(np.array(attention(q, k, v, scale=0.3, mask=mask)), expected, atol=2e-6)


@pytest.mark.parametrize("length", [QUERIES - 1, QUERIES, 2 * QUERIES + 3])
@pytest.mark.parametrize("mask", [None, "causal"])
def test_it_agrees_with_mlx_on_long_inputs(length, mask):
    q, k, v = drawn((1, 4, length, 16), 0), drawn((1, 2, length, 16), 1), drawn((1, 2, length, 16), 2)
    theirs = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.25, mask=mask)
    np.testing.assert_allclose(np.array(attention(q, k, v, scale=0.25, mask=mask)), np.array(theirs), atol=2e-5)


def test_it_stands_in_only_meanwhile_and_leaves_sinks_to_mlx():
    fused = mx.fast.scaled_dot_product_attention
    q, k, v = (drawn((1, 2, 5, 8), seed) for seed in range(3))
    sinks = mx.array([0.5, -1.0])
    expected = fused(q, k, v, scale=0.3, sinks=sinks)
    with replaced(host_kernels()):
        assert mx.fast.scaled_dot_product_attention is not fused
        assert mx.array_equal(mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, sinks=sinks), expected)
    assert mx.fast.scaled_dot_product_attention is fused


def test_mlxs_own_comes_back_after_an_error():
    before = mx.fast.scaled_dot_product_attention, nn.silu, nn.gelu_approx
    q = drawn((1, 2, 5, 8), 0)
    with replaced(host_kernels()), pytest.raises(TypeError, match="scale"):
        mx.fast.scaled_dot_product_attention(q, q, q)  # type: ignore[call-arg]
    assert (mx.fast.scaled_dot_product_attention, nn.silu, nn.gelu_approx) == before


EDGES = np.array([0, -0.0, 1, -1, 20, -20, 90, -90, 1e4, -1e4], np.float32)  # exp(90) is infinite in float32
NUMBERS = np.concatenate([EDGES, 5 * np.random.default_rng(0).standard_normal(990).astype(np.float32)])


def test_activations_are_what_their_definitions_say():
    x, gate = NUMBERS.astype(np.float64), NUMBERS[::-1].astype(np.float64)
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-gate))
    tanh = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    mine, other = mx.array(NUMBERS), mx.array(NUMBERS[::-1].copy())
    np.testing.assert_allclose(np.array(silu(other)), gate * sigmoid, rtol=1e-6, atol=1e-35)
    np.testing.assert_allclose(np.array(swiglu(other, mine)), gate * sigmoid * x, rtol=1e-6, atol=1e-35)
    np.testing.assert_allclose(np.array(gelu(mine)), x / 2 * (1 + tanh), rtol=2e-6, atol=2e-6)


def test_activations_agree_with_mlx_and_leave_their_input_alone():
    from mlx_lm.models import activations

    x, gate = mx.array(NUMBERS), mx.array(NUMBERS[::-1].copy())
    for mine, theirs in (
        (swiglu(gate, x), activations.swiglu(gate, x)),
        (silu(x), nn.silu(x)),
        (gelu(x), nn.gelu_approx(x)),
    ):
        np.testing.assert_allclose(np.array(mine), np.array(theirs), rtol=2e-6, atol=2e-6)
    assert np.array_equal(np.array(x), NUMBERS)
    assert np.array_equal(np.array(gate), NUMBERS[::-1])


def test_the_models_of_mlx_lm_find_them():
    modules = [importlib.import_module(f"mlx_lm.models.{name}") for name in ("activations", "llama", "qwen2")]
    with replaced(host_kernels()):
        assert all(module.swiglu is swiglu for module in modules)
    assert not any(module.swiglu is swiglu for module in modules)


def test_within_a_compiled_function_mlx_computes():
    x = drawn((4, 5), 0)
    compiled = mx.compile(lambda x: nn.silu(x) + nn.gelu_approx(x))
    expected = nn.silu(x) + nn.gelu_approx(x)
    with replaced(host_kernels()):
        np.testing.assert_allclose(np.array(compiled(x)), np.array(expected), atol=1e-6)
