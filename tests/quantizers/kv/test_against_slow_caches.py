"""What every query sees, computed for a whole text at once, against caches that are filled token by token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizers.kv import slow_caches
from scipy.linalg import hadamard

from pytest_quantbench.quantizers import field_names, kv

SMALL_KIVI = {"bits": 2, "group": 4, "window": 8}
SMALL_PM = {"four": 12, "two": 24, "window": 8, "sinks": 1, "group": 8}
SMALL_MIX = {"full": 0.125, "four": 0.25, "group": 4, "window": 8}
SMALL_COCKTAIL = {"full": 1, "four": 1, "chunk": 4, "block": 16, "group": 4}
# by a name: the method, its parameters, and the slow cache with those that it has beside
METHODS = {
    "kv4": ("affine", {"bits": 4, "group": 8}, slow_caches.Affine, {"key_bits": 4, "value_bits": 4, "rotated": False}),
    "k8v3": (
        "affine",
        {"key_bits": 8, "value_bits": 3, "group": 8},
        slow_caches.Affine,
        {"key_bits": 8, "value_bits": 3, "rotated": False},
    ),
    "token": ("token", {"bits": 3}, slow_caches.PerToken, {}),
    "channel": ("channel", {"bits": 2, "group": 5}, slow_caches.PerChannel, {}),
    "kivi": ("kivi", SMALL_KIVI, slow_caches.Kivi, {}),
    "pmkvq": ("pmkvq", SMALL_PM, slow_caches.PmKvq, {}),
    "mixkvq": ("mixkvq", SMALL_MIX, slow_caches.MixKvq, {}),
    "cocktailkv": ("cocktailkv", SMALL_COCKTAIL, slow_caches.Cocktail, {}),
}


def drawn(seed, heads, queries_of_each, tokens, channels):
    """(heads, tokens, channels) keys with some large channels, values, and (query heads, tokens, channels) queries."""
    rng = np.random.default_rng(seed)
    gains = np.exp(rng.standard_normal(channels))
    keys, values = rng.standard_normal((2, heads, tokens, channels)).astype(np.float32)
    queries = rng.standard_normal((heads * queries_of_each, tokens, channels)).astype(np.float32)
    return (keys * gains + gains).astype(np.float32), values, queries


def seen_at_once(form, part, numbers, queries, keys, position):
    """(heads, position + 1, channels): what the query of this position sees, by the protocol alone."""
    reached = form.reached(part, np.array([position]), np.arange(position + 1))[0]
    seen = numbers[:, : position + 1].copy()
    for stage in range(len(form.stages(part))):
        there = reached == stage
        seen[:, there] = form.given_back(part, stage, numbers, queries, keys)[:, : position + 1][:, there]
    return seen


def agree(name, parameters, slow, more, seed, heads, queries_of_each, tokens, channels, tolerance=1e-5):
    keys, values, queries = drawn(seed, heads, queries_of_each, tokens, channels)
    form = kv.get(name)(**parameters).form(channels)
    for head in range(heads):
        own = queries[head * queries_of_each : (head + 1) * queries_of_each]
        cache = slow(**{**parameters, **more})
        for position in range(tokens):
            cache.append(keys[head, position], values[head, position], own[:, position])
            for part, numbers, expected in zip(("keys", "values"), (keys, values), cache.seen(), strict=True):
                seen = seen_at_once(form, part, numbers, queries, keys, position)[head]
                np.testing.assert_allclose(seen, expected, rtol=tolerance, atol=tolerance, err_msg=f"{part} {position}")


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    heads=st.integers(1, 2),
    queries_of_each=st.integers(1, 2),
    tokens=st.integers(1, 37),
    channels=st.sampled_from([4, 6, 8, 12]),
)
def test_what_a_query_sees_is_what_a_cache_filled_token_by_token_holds(
    name, seed, heads, queries_of_each, tokens, channels
):
    agree(*METHODS[name], seed, heads, queries_of_each, tokens, channels)


@pytest.mark.parametrize("channels", [4, 8, 16])
def test_rotated_keys_are_what_is_stored_turned_back(channels):
    turn = (hadamard(channels) / channels**0.5).astype(np.float32)
    more = {"key_bits": 4, "value_bits": 4, "turn": turn}
    agree("affine", {"bits": 4, "group": 8, "rotated": True}, slow_caches.Affine, more, 3, 2, 1, 6, channels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kivi", "mixkvq", "cocktailkv", "pmkvq"])
def test_with_the_defaults_of_the_papers(name):
    """At their own sizes, past the first borders; seen by the last query."""
    tokens, channels = 300, 16
    keys, values, queries = drawn(1, 1, 2, tokens, channels)
    method = kv.get(name)()
    parameters = {each: getattr(method, each) for each in field_names(type(method))}
    cache = METHODS[name][2](**parameters)
    for position in range(tokens):
        cache.append(keys[0, position], values[0, position], queries[:, position])
    form = method.form(channels)
    for part, numbers, expected in zip(("keys", "values"), (keys, values), cache.seen(), strict=True):
        seen = seen_at_once(form, part, numbers, queries, keys, tokens - 1)[0]
        np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-5)
        assert not np.array_equal(seen, numbers[0])
