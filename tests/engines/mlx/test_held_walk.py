"""A walk with a held key-value cache is decoding token by token with such a cache."""

import mlx.core as mx
import numpy as np
import pytest
from kv_methods import METHODS
from slow_cache import SlowCache
from small_models import CONFIGS, InMemory

from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.engines.protocol import Cached


class Decoding:
    """One layer's cache in the form of mlx-lm's, for one text whose tokens come one by one."""

    def __init__(self, method):
        self.method, self.offset, self.parts = method, 0, None

    def update_and_fetch(self, keys, values):
        given = np.array(keys)[0], np.array(values)[0]  # (heads, 1, channels)
        assert given[0].shape[1] == 1
        if self.parts is None:
            self.parts = [
                SlowCache(self.method, part, each.shape[-1]) for part, each in zip(("keys", "values"), given, strict=True)
            ]
        self.offset += 1
        seen = [part.store(each[:, 0]) for part, each in zip(self.parts, given, strict=True)]
        return tuple(mx.array(each[None].astype(np.float32)) for each in seen)

    def make_mask(self, length, return_array=False, window_size=None):
        if window_size is None:
            return None
        places = np.arange(self.offset + length)
        return mx.array(places > self.offset - window_size)[None]


def decoded(model, tokens, method):
    """(tokens, vocabulary) logits."""
    cache = [Decoding(method) for _ in model.layers]
    return np.concatenate([np.array(model(mx.array([[int(token)]]), cache=cache)[0]) for token in tokens])


def log_probabilities(logits):
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_walk_is_decoding_token_by_token(architecture, method, host):
    weights = InMemory(architecture)
    tokens = np.random.default_rng(1).integers(0, 2048, (2, 23))
    walk = Walk(Cached(weights, METHODS[method]), weights, host=host)
    walk.run([Batch(tokens=tokens)], "")
    found = np.array(walk.head(0, slice(None)))
    assert np.abs(found - np.array(walk.head(0, slice(None), 1))).max() > 1e-4
    for row, text in enumerate(tokens):
        expected = decoded(weights.model, text, METHODS[method])
        assert np.abs(log_probabilities(found[row]) - log_probabilities(expected)).max() < 1e-5
