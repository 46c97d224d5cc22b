"""mlx-lm's own models, decoding one text token by token with the slow cache of `slow_cache`."""

import mlx.core as mx
import numpy as np
from slow_cache import SlowCache


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
