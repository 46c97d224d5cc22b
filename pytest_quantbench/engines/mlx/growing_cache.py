"""Key-value caches of answers that are held in few bits: mlx-lm's own for several sequences, which grow token by token.

What is stored is what the model computed, or what has been made of it where that is for good. In which form attention
sees it is the same as in a walk (see kv_cache); each token is rounded once for every stage that it goes into.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.base import create_causal_mask
from mlx_lm.models.cache import BatchKVCache, CacheList, make_prompt_cache

from pytest_quantbench.engines.batches import PADDING, Ids
from pytest_quantbench.engines.held_caches import HeldCache
from pytest_quantbench.engines.mlx.aging_attention import Aging, Expected, Handed, Numbers, attention
from pytest_quantbench.engines.mlx.kv_cache import Holding, windows_in
from pytest_quantbench.quantizers.kv.protocol import Floats, KVQuantizer, Part

STEP = 256  # tokens that room is made for at once


def holding(method: KVQuantizer, model: nn.Module) -> Holding:
    """How a whole model's caches are held. Later layers may attend to what earlier ones have stored."""
    name = type(model).__module__.rpartition(".")[2]
    return Holding(HeldCache(method), Expected(name, most=len(make_prompt_cache(model))))


def fresh(model: nn.Module, held: Holding) -> list[Any]:
    """The caches of one sequence, before it has any tokens."""
    numbers = count()
    return [_in_place_of(cache, held, numbers) for cache in make_prompt_cache(model)]


def _in_place_of(cache: Any, held: Holding, numbers: Iterator[int]) -> Any:
    if isinstance(cache, CacheList):
        return type(cache)(*(_in_place_of(each, held, numbers) for each in cache.caches))
    if not hasattr(cache, "update_and_fetch"):
        return cache
    return GrowingCache([0], held, next(numbers), next(windows_in(cache)))


class Rounded:
    """What has been rounded for a stage so far: (rows, heads, tokens, channels), and of how many tokens of each row."""

    def __init__(self, rows: int, heads: int, channels: int) -> None:
        self.numbers: Numbers = np.zeros((rows, heads, 0, channels), np.float32)
        self.counts = np.zeros(rows, np.int64)

    def grow(self, tokens: int) -> None:
        """Make room for so many."""
        missing = tokens - self.numbers.shape[2]
        if missing > 0:
            more = -(-missing // STEP) * STEP
            self.numbers = np.pad(self.numbers, ((0, 0), (0, 0), (0, more), (0, 0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Growing(Aging):
    """Keys or values of which some have been `rounded` before: only what has gone into a stage since then is now."""

    rounded: dict[tuple[Part, int], Rounded]

    def stored(self, queries: Floats | None, keys: Floats, stage: int) -> Numbers:
        """All that are in a stage; what is not in it yet has no meaning. −1: as computed."""
        if stage < 0:
            return self.computed
        rows, heads, tokens, channels = self.computed.shape
        held = self.rounded.setdefault((self.part, stage), Rounded(rows, heads, channels))
        held.grow(tokens)
        entered = self.form.entered(self.part, self.positions[:, -1])[stage]
        for row in np.flatnonzero(entered > held.counts):
            first = int((self.positions[row] == PADDING).sum())  # all of them before the tokens
            new = slice(first + int(held.counts[row]), first + int(entered[row]))
            looked = (None if each is None else each[row][:, new] for each in (queries, keys))
            held.numbers[row][:, new] = self.form.given_back(self.part, stage, self.computed[row][:, new], *looked)
            held.counts[row] = entered[row]
        return held.numbers[:, :, :tokens]


class GrowingCache(BatchKVCache):
    """One decoder layer's, of several sequences: padded at their beginnings, and while prompts are read at their ends.
    Windows are the mask's: what lies before them is kept. `number`: among the model's caches; `window`: how many of the
    newest tokens mlx-lm's own would keep, 0: all.
    """

    def __init__(self, left_padding: Sequence[int], held: Holding, number: int, window: int) -> None:
        super().__init__(list(left_padding))
        self.held, self.number, self.window = held, number, window
        self.looked: Any = BatchKVCache(list(left_padding))  # the queries, where the method looks at them
        self.rounded: dict[tuple[Part, int], Rounded] = {}  # by part and stage

    @property
    def _mlx_lms(self) -> Any:
        """Itself, as mlx-lm's cache has it."""
        return super()

    @staticmethod
    def merge(caches: Sequence[Any]) -> "GrowingCache":
        """One for several sequences that have no tokens yet."""
        first = caches[0]
        return GrowingCache([0] * len(caches), first.held, first.number, first.window)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """(rows, heads, length, channels) of new tokens → those of all tokens."""
        own = self._positions(keys.shape[2])[:, -keys.shape[2] :]
        self.held.cache.saw(self.number, (keys.shape[1], keys.shape[-1], values.shape[-1], self.window), own)
        is_at_once = self.held.at_once("keys", keys) and self.held.at_once("values", values)
        whole = self._mlx_lms.update_and_fetch(self.held.own("keys", keys, own), self.held.own("values", values, own))
        if not is_at_once:
            positions = self._positions(0)
            attending = partial(
                attention,
                keys=self._growing("keys", whole[0], positions),
                values=self._growing("values", whole[1], positions),
                noting=self._noting(),
            )
            handed = Handed(keys=whole[0], values=whole[1], attending=attending)
            self.held.expected.hand(self.held.cache.method.name, handed)
        found: tuple[mx.array, mx.array] = whole
        return found

    def _positions(self, more: int) -> Ids:
        """(rows, tokens): where what is stored stands, and so many tokens behind it."""
        places = np.arange(self._idx + more) - np.array(self.left_padding)[:, None]
        return np.where(places < 0, PADDING, places)

    def _growing(self, part: Part, numbers: mx.array, positions: Ids) -> Aging:
        aging = self.held.aging(part, numbers, positions)
        return Growing(part=part, form=aging.form, computed=aging.computed, positions=positions, rounded=self.rounded)

    def _noting(self) -> Callable[[mx.array], mx.array]:
        """What stores the queries of new tokens, once."""
        noted: list[mx.array] = []

        def note(queries: mx.array) -> mx.array:
            if not noted:
                noted.append(self.looked.update_and_fetch(queries, queries[..., :1])[0])
            return noted[0]

        return note

    def make_mask(self, N: int, return_array: bool = False, **kwargs: Any) -> mx.array:
        """As mlx-lm's."""
        mask: mx.array = create_causal_mask(N, offset=self._idx, left_padding=self.left_padding, **kwargs)
        return mask

    def prepare(self, **kwargs: Any) -> None:
        """Prompts of unlike lengths are about to come."""
        self._mlx_lms.prepare(**kwargs)
        self.looked.prepare(**kwargs)

    def finalize(self) -> None:
        """They have come: their ends stand below each other from now on."""
        self.rounded.clear()
        self._mlx_lms.finalize()
        if self.looked.keys is not None:
            self.looked.finalize()
        else:
            self._forget_queries()

    def filter(self, batch_indices: Any) -> None:
        """Keep these sequences."""
        self.rounded.clear()
        self._mlx_lms.filter(batch_indices)
        if self.looked.keys is not None:
            self.looked.filter(batch_indices)
        else:
            self._forget_queries()

    def extend(self, other: Any) -> None:
        """Take another one's sequences along."""
        self.rounded.clear()
        has_queries = self.looked.keys is not None or other.looked.keys is not None
        self._mlx_lms.extend(other)
        if has_queries:
            self.looked.extend(other.looked)
        else:
            self._forget_queries()

    def _forget_queries(self) -> None:
        padding: Any = self.left_padding.tolist()
        self.looked = BatchKVCache(padding)
