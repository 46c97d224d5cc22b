"""A Llama that is decoded with a key-value cache in few bits: what an engine's walk with such a cache is held to.

One token at a time, and at each of them every token is rounded anew, from what the model computed. In which stage a
token is, is counted here from what has been stored; of the method nothing is asked but its stages and their roundings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers.kv.protocol import KVQuantizer, Part, Rounding, Stage, rotation
from pytest_quantbench.workbench.reference_llama import ReferenceLlama, Seen, Tensors

Doubles = NDArray[np.float64]


class ReferenceCache:
    """Keys and values (heads, tokens, channels) of one text as computed, and the queries of its tokens."""

    def __init__(self, method: KVQuantizer, queries: Doubles, keys: Doubles, values: Doubles) -> None:
        self._form = method.form(keys.shape[-1])
        self._queries, self._computed = queries, {"keys": keys, "values": values}

    def seen(self, part: Part, place: int) -> Doubles:
        """(heads, place + 1, channels): the tokens up to the one at this place, as its query sees them."""
        found = self._computed[part][:, : place + 1].copy()
        for token in range(self._form.sinks, place + 1):
            stage = stage_of(self._form.stages(part), token, place + 1)
            if stage is not None and stage.rounding is not None:
                found[:, token] = self._held(part, stage.rounding, token)
        return found

    def _held(self, part: Part, rounding: Rounding, token: int) -> Doubles:
        """(heads, channels) of a token that is rounded with those of its group."""
        first = token - token % rounding.token_group
        group = slice(first, first + rounding.token_group)
        turn = rotation(self._computed["keys"].shape[-1]).astype(np.float64) if self._form.rotates else np.eye(1)
        own = turn if self._form.rotates and part == "keys" else None
        numbers = self._computed[part][:, group]
        looked = [
            np.ascontiguousarray(each[:, group] @ turn if self._form.rotates else each[:, group], np.float32)
            for each in (self._queries, self._computed["keys"])
        ]
        numbers = numbers if own is None else numbers @ own
        asked = looked if rounding.looks else []
        back = rounding.rounded(np.ascontiguousarray(numbers, np.float32), *asked).astype(np.float64)
        found: Doubles = (back if own is None else back @ own.T)[:, token - first]
        return found


def stage_of(stages: Sequence[Stage], token: int, stored: int) -> Stage | None:
    """The last of the stages that a token has gone into, of so many that have been stored; None: none yet."""
    found = None
    for stage in stages:
        old_enough = max(stored - stage.age, 0)
        if token < old_enough - old_enough % stage.chunk:
            found = stage
    return found


class CachedLlama(ReferenceLlama):
    """A model of these tensors, whose cache is held as a method says."""

    def __init__(self, config: Mapping[str, Any], tensors: Tensors, method: KVQuantizer) -> None:
        super().__init__(config, tensors)
        self._method = method

    def _attention(self, prefix: str, entered: Doubles, seen: Seen) -> Doubles:
        heads, shared = self._config["num_attention_heads"], self._config["num_key_value_heads"]
        query, key, value = (self._heads(prefix, name, entered, seen) for name in "qkv")  # (heads, tokens, head size)
        query, key = self._turned(query), self._turned(key)
        cache, mixed = ReferenceCache(self._method, query, key, value), []
        for place in range(len(entered)):
            keys, values = (np.repeat(cache.seen(part, place), heads // shared, axis=0) for part in ("keys", "values"))
            scores = np.einsum("hd,htd->ht", query[:, place], keys) / np.sqrt(query.shape[-1])
            powers = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(np.einsum("ht,htd->hd", powers / powers.sum(-1, keepdims=True), values).ravel())
        return self._product(f"{prefix}o_proj.weight", np.stack(mixed), seen)
