"""A key-value cache as it is decoded with: one token at a time, every token rounded anew at every step.

What any walk with a held cache is compared with. Nothing of it is an engine's: which form a token is in is counted
here from what has been stored, and rotations are scipy's.
"""

import numpy as np
from scipy.linalg import hadamard


class SlowCache:
    """Keys and values of one layer and one text, in float64."""

    def __init__(self, method):
        self._method, self._keys, self._values, self._queries = method, [], [], []

    def store(self, query, key, value):
        """(query heads, channels), (heads, channels) twice, of the next token → keys and values of all tokens, (heads,
        tokens, channels), as the query sees them. `query`: None where no rounding looks at queries.
        """
        for held, token in ((self._queries, query), (self._keys, key), (self._values, value)):
            held.append(np.asarray(np.zeros((1, 1)) if token is None else token, np.float64))
        queries, keys, values = (np.stack(each, axis=1) for each in (self._queries, self._keys, self._values))
        return self._seen("keys", keys, queries, keys), self._seen("values", values, queries, keys)

    def looks(self, channels):
        """Whether a rounding does."""
        form = self._method.form(channels)
        return any(stage.rounding is not None and stage.rounding.looks for stage in (*form.keys, *form.values))

    def _seen(self, part, computed, queries, keys):
        form, seen = self._method.form(computed.shape[-1]), computed.copy()
        for place in range(form.sinks, computed.shape[1]):
            stage = stage_of(form.stages(part), place, computed.shape[1])
            if stage is not None and stage.rounding is not None:
                first = place - place % stage.rounding.token_group
                group = slice(first, first + stage.rounding.token_group)
                given = computed[:, group], queries[:, group], keys[:, group]
                seen[:, place] = held(form, part, stage.rounding, *given)[:, place - first]
        return seen


def stage_of(stages, place, stored):
    """The last stage whose age the token has, and whose chunk of tokens has it to the end."""
    found = None
    for stage in stages:
        old_enough = max(stored - stage.age, 0)
        if place < old_enough - old_enough % stage.chunk:
            found = stage
    return found


def held(form, part, rounding, computed, queries, keys):
    turn = hadamard(keys.shape[-1]) / np.sqrt(keys.shape[-1]) if form.rotates else np.eye(keys.shape[-1])
    own = turn if part == "keys" else np.eye(computed.shape[-1])
    looked = [np.ascontiguousarray(each @ turn.T, np.float32) for each in (queries, keys)] if rounding.looks else []
    return rounding.rounded(np.ascontiguousarray(computed @ own.T, np.float32), *looked).astype(np.float64) @ own
