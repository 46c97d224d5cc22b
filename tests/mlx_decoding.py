"""mlx-lm's own models, decoding one text token by token with the slow cache of `decoded_cache`."""

from contextlib import contextmanager

import mlx.core as mx
import numpy as np
from decoded_cache import SlowCache
from mlx_lm.models.cache import make_prompt_cache


class Decoding:
    """One layer's cache in the form of mlx-lm's, for one text whose tokens come one by one."""

    def __init__(self, method):
        self.slow, self.offset, self.given = SlowCache(method), 0, None

    def update_and_fetch(self, keys, values):
        assert keys.shape[0] == keys.shape[2] == 1  # one row, one token
        self.offset += 1
        self.given, self.last = (keys, values), None
        if self.slow.looks(keys.shape[-1]):
            return self, self  # whose keys and values the query decides on
        return self.seen(None)

    def seen(self, query):
        if self.last is None:  # a later layer that attends to the same keys has no say in how they are held
            self.last = self.stored(query)
        return self.last

    def stored(self, query):
        given = [None if each is None else np.array(each)[0, :, 0] for each in (query, *self.given)]
        return [mx.array(each[None].astype(np.float32)) for each in self.slow.store(*given)]

    def make_mask(self, length, return_array=False, window_size=None):
        if window_size is None:
            return None
        places = np.arange(self.offset + length)
        return mx.array(places > self.offset - window_size)[None]


@contextmanager
def decided_by_queries():
    """Attention asks the caches above for keys and values."""
    fused = mx.fast.scaled_dot_product_attention

    def attention(queries, keys, values, **how):
        pair = keys.seen(queries) if isinstance(keys, Decoding) else (keys, values)
        return fused(queries, *pair, **how)

    mx.fast.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        mx.fast.scaled_dot_product_attention = fused


def decoded(model, tokens, method):
    """(tokens, vocabulary) logits."""
    cache = [held(each, method) for each in make_prompt_cache(model)]
    with decided_by_queries():
        return np.concatenate([np.array(model(mx.array([[int(token)]]), cache=cache)[0]) for token in tokens])


def held(cache, method):
    """Ours in the place of what takes keys and values."""
    return Decoding(method) if hasattr(cache, "update_and_fetch") else cache


def log_probabilities(logits):
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
