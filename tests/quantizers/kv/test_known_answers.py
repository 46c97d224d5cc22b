"""What papers say of keys with outlier channels: which way of rounding keeps the answers of attention."""

import numpy as np
import pytest

from pytest_quantbench.catalog.recipes import CACHES, Part
from pytest_quantbench.quantizers import kv
from pytest_quantbench.workbench.cache_conformance import seen

TOKENS, CHANNELS = 512, 64


def text(outliers):
    """(1, tokens, channels) keys, values, and (2, …) queries. Outlier channels of the keys are 20 times the others, of
    one sign; the queries are as much smaller there, so that scores are as without.
    """
    rng = np.random.default_rng(5)
    keys, values = rng.standard_normal((2, 1, TOKENS, CHANNELS)).astype(np.float32)
    queries = 1.5 * rng.standard_normal((2, TOKENS, CHANNELS)).astype(np.float32)
    if outliers:
        keys[..., [3, 40]] = 20 * (1 + 0.2 * keys[..., [3, 40]])
        queries[..., [3, 40]] /= 20
    return keys, values, queries


def answer(queries, keys, values):
    """(2, channels): what attention answers the last token's queries."""
    scores = queries[:, -1] @ keys[0].T / CHANNELS**0.5
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights @ values[0] / weights.sum(1, keepdims=True)


def error(part, outliers=True):
    """Of the answers, as a share of them."""
    given = text(outliers)
    right = answer(given[2], *given[:2])
    back = seen(kv.make(part).form(CHANNELS), given, TOKENS - 1)
    return np.linalg.norm(answer(given[2], *back) - right) / np.linalg.norm(right)


def key_error(part):
    """Of the keys alone: values are as they were."""
    keys, values, queries = text(outliers=True)
    right = answer(queries, keys, values)
    back, _ = seen(kv.make(part).form(CHANNELS), (keys, values, queries), TOKENS - 1)
    return np.linalg.norm(answer(queries, back, values) - right) / np.linalg.norm(right)


def test_eight_bits_are_as_good_as_nothing():
    assert error(CACHES["kv8"], outliers=False) < 0.02
    assert error(CACHES["kv8-token"], outliers=False) < 0.01


def test_keys_with_outlier_channels_want_grids_for_each_channel():
    """At equal bits: 2 of a code and 32 for a group of 64 numbers."""
    per_channel, per_token = key_error(CACHES["kv2-channel"]), key_error(CACHES["kv2-token"])
    assert per_channel < 0.7 * per_token


def test_kivi_is_better_than_tokens_for_themselves_at_equal_bits():
    """Groups of 64 numbers and no window that counts: 2.5 bits for a number of either."""
    kivi = Part(quantizer="kivi", parameters={"bits": 2, "group": 64, "window": 64})
    assert error(kivi) < 0.8 * error(CACHES["kv2"])


def test_rotation_spreads_outliers():
    assert key_error(CACHES["kv4-rot"]) < 0.8 * key_error(CACHES["kv4"])


def test_more_bits_for_the_channels_that_matter_are_better_than_for_any():
    """MixKVQ's choice, against channels chosen by range alone: queries are small where keys are large."""
    chosen = key_error(CACHES["mixkvq"])
    none = key_error(Part(quantizer="mixkvq", parameters={"full": 0.0, "four": 0.0}))
    assert chosen < 0.9 * none


def test_mixkvq_ranks_by_range_and_queries():
    """Channel 5 has the largest queries, channel 9 the largest range, channel 7 both to some degree."""
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((1, 128, 16)).astype(np.float32)
    queries = rng.standard_normal((1, 128, 16)).astype(np.float32)
    keys[..., 9] *= 50
    queries[..., 9] *= 1e-3
    queries[..., 5] *= 8
    keys[..., 7] *= 6
    queries[..., 7] *= 6
    method = kv.make(Part(quantizer="mixkvq", parameters={"full": 1 / 16, "four": 1 / 16}))
    back = method.form(16).given_back("keys", 0, keys, queries, keys)
    exact = [channel for channel in range(16) if np.array_equal(back[..., channel], keys[..., channel])]
    levels = [len(np.unique(back[0, :32, channel])) for channel in range(16)]
    assert exact == [7]
    assert 4 < levels[5] <= 16
    assert levels[9] <= 4


def test_cocktail_keeps_the_chunk_that_the_query_is_like():
    rng = np.random.default_rng(0)
    keys, values = rng.standard_normal((2, 1, 256, 16)).astype(np.float32)
    queries = rng.standard_normal((1, 256, 16)).astype(np.float32)
    keys[0, 64:96] += 3
    queries[0, 224:] += 3  # the last chunk asks for the third
    form = kv.make(CACHES["cocktailkv"]).form(16)
    for part, numbers in (("keys", keys), ("values", values)):
        back = form.given_back(part, 0, numbers, queries, keys)
        exact = [
            chunk for chunk in range(8) if np.array_equal(back[0, 32 * chunk :][:32], numbers[0, 32 * chunk :][:32])
        ]
        assert exact == [2]


def test_bits_fall_with_a_token_s_age_in_pm_kvq():
    form = kv.make(CACHES["pmkvq"]).form(64)
    reached = form.reached("keys", np.array([4095]), np.arange(4096))[0]
    assert reached[0] == -1  # the first token is a sink
    assert np.array_equal(np.flatnonzero(np.diff(reached)) + 1, [1, 2048, 3584])
    assert reached[[1, 2048, 3584]].tolist() == [2, 1, 0]


@pytest.mark.parametrize(("tokens", "keys", "values"), [(127, 0, 0), (128, 128, 0), (129, 128, 1), (300, 256, 172)])
def test_kivi_s_windows(tokens, keys, values):
    form = kv.make(CACHES["kivi2"]).form(64)
    for part, rounded in (("keys", keys), ("values", values)):
        reached = form.reached(part, np.array([tokens - 1]), np.arange(tokens))[0]
        assert reached.tolist() == [0] * rounded + [-1] * (tokens - rounded)
        assert form.entered(part, np.array([tokens - 1])).tolist() == [[rounded]]
