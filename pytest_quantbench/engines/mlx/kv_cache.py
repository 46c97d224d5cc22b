"""Keys and values that are held in few bits or that others go on from, in the form of mlx-lm's own key-value caches.

mlx-lm's models ask a cache for positions and masks and hand it their keys and values. These caches give a branch those
of the rows that it goes on from, and are let go of when the last branch has seen them. What a method makes of keys and
values they give back where that is one form for all queries; else they say what attention is to see (`Expected`).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from typing import Any, TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.engines.batches import Batch, Ids, Places
from pytest_quantbench.engines.held_caches import HeldCache, given_back, is_at_once
from pytest_quantbench.engines.mlx.aging_attention import Aging, Expected, Handed, attention
from pytest_quantbench.engines.mlx.host_kernels import Kernel
from pytest_quantbench.engines.mlx.host_products import view
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Part

CAUSAL = "create_causal_mask"
KEEPS = ("max_size", "chunk_size")  # what mlx-lm's caches call how many tokens they keep
Kinds: TypeAlias = "Sequence[bool | Kinds]"  # of caches: see `kinds`


class Positions:
    """A batch's places as MLX's arrays. All layers and all recipes of a walk share them: each is made once."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.offset = places.start if places.even else mx.array(places.starts.astype(np.int32))
        self._masks: dict[tuple[int, int | None], mx.array] = {}

    def mask(self, length: int, window: int | None) -> mx.array:
        """(rows, 1, length, keys) booleans: what the last `length` tokens of every row see."""
        if (length, window) not in self._masks:
            self._masks[length, window] = mx.array(self.places.visible(length, window))
        return self._masks[length, window]


@dataclass(frozen=True, slots=True)
class Holding:
    """One track's way of holding keys and values, and the attention that is to see them so."""

    cache: HeldCache
    expected: Expected

    def __deepcopy__(self, memo: object) -> Holding:
        """Itself: whoever copies a cache goes on with the same one."""
        return self

    def at_once(self, part: Part, numbers: mx.array) -> bool:
        """Whether such keys or values have one form for all queries."""
        return is_at_once(self.cache.form(numbers.shape[-1]), part)

    def own(self, part: Part, numbers: mx.array, positions: Ids) -> mx.array:
        """(rows, heads, length, channels) of tokens at `positions`, rounded where that is for good."""
        form = self.cache.form(numbers.shape[-1])
        if not self.at_once(part, numbers) or not form.stages(part):
            return numbers
        computed = view(numbers.astype(mx.float32))
        found = given_back(form, part, 0, computed, positions)
        if form.sinks:
            found = np.where(positions[:, None, :, None] < form.sinks, computed, found)
        return mx.array(found).astype(numbers.dtype)

    def aging(self, part: Part, numbers: mx.array, positions: Ids) -> Aging:
        """Those of all tokens, for attention."""
        form = AS_THEY_ARE if self.at_once(part, numbers) else self.cache.form(numbers.shape[-1])
        return Aging(part=part, form=form, computed=view(numbers.astype(mx.float32)), positions=positions)


AS_THEY_ARE = CacheForm(keys=(), values=())  # of what has been rounded for good


@dataclass(slots=True)
class KeysValues:
    """One decoder layer's keys and values of one batch, kept until the last branch has seen them."""

    positions: Positions
    parent: KeysValues | None
    rows: mx.array | None
    branches: int = 0  # how many still have to see them
    holding: Holding | None = None
    number: int = 0  # among the model's caches
    window: int = 0  # how many of the newest tokens the model keeps here; 0: all
    batch: int = 0
    held: tuple[mx.array, mx.array] | None = field(default=None)
    queries: mx.array | None = None  # of all tokens, where the method looks at them

    @property
    def offset(self) -> int | mx.array:
        """The position of the batch's own first tokens: one for all rows, or (rows,)."""
        return self.positions.offset

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """(rows, heads, length, d) of the batch's own tokens → with those of all tokens before them."""
        own = self._stored(keys, values)
        if self.parent is not None:
            assert self.parent.held is not None
            before = [part[self.rows] for part in self.parent.held]
            own = mx.concatenate([before[0], own[0]], axis=2), mx.concatenate([before[1], own[1]], axis=2)
            self.queries = None if self.parent.queries is None else self.parent.queries[self.rows]
            self.parent.branches -= 1
            if not self.parent.branches:
                self.parent.held = self.parent.queries = None
        if self.branches:
            mx.eval(own)
            self.held = own
        self._tell(*own)
        return own

    def _stored(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The batch's own, as they are held from the beginning."""
        if self.holding is None:
            return keys, values
        places = self.positions.places.keys[:, -keys.shape[2] :]
        shape = keys.shape[1], keys.shape[-1], values.shape[-1], self.window
        self.holding.cache.saw(self.number, shape, places, self.batch)
        return self.holding.own("keys", keys, places), self.holding.own("values", values, places)

    def _tell(self, keys: mx.array, values: mx.array) -> None:
        """Say how attention is to see them, where that depends on the query."""
        held, places = self.holding, self.positions.places.keys
        if held is not None and not (held.at_once("keys", keys) and held.at_once("values", values)):
            aging = held.aging("keys", keys, places), held.aging("values", values, places)
            attending = partial(attention, keys=aging[0], values=aging[1], noting=self._noting())
            held.expected.hand(held.cache.method.name, Handed(keys=keys, values=values, attending=attending))

    def _noting(self) -> Callable[[mx.array], mx.array]:
        """What puts the batch's own queries behind those of the tokens before them, once: a later layer that attends
        to the same keys has no say in how they are held.
        """
        noted: list[mx.array] = []

        def note(queries: mx.array) -> mx.array:
            if not noted:
                noted.append(queries if self.queries is None else mx.concatenate([self.queries, queries], axis=2))
                self.queries = noted[0] if self.branches else None
            return noted[0]

        return note

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """The causal mask of tokens that have others before them, as mlx-lm's own caches make it."""
        from mlx_lm.models.cache import create_attention_mask

        places = self.positions.places
        if places.even:
            return create_attention_mask(length, places.start, return_array, window_size)
        return self.positions.mask(length, window_size)


Caches: TypeAlias = "Sequence[KeysValues | Caches | None]"  # of a model, or of what stands at one of its places


def caches(
    batches: Sequence[Batch],
    positions: Sequence[Positions],
    kinds: Kinds,
    holding: Holding | None = None,
    windows: Sequence[int] = (),
) -> list[Caches | None]:
    """Per batch one for every layer that has one; None for batches that neither are a branch nor have one, unless keys
    and values are held in few bits. `windows`: of each cache that is made.
    """
    children = Counter(batch.parent for batch in batches)
    made: list[Caches | None] = []
    for number, (batch, place) in enumerate(zip(batches, positions, strict=True)):
        above = None if batch.parent is None else made[batch.parent]
        if above is None and not children[number] and holding is None:
            made.append(None)
            continue
        rows = None if above is None else mx.array(batch.rows)
        alike = partial(KeysValues, place, rows=rows, branches=children[number], holding=holding, batch=number)
        numbered = enumerate(chain(windows, repeat(0)))
        made.append(_of_kinds(kinds, above, partial(_numbered, alike, numbered)))
    return made


def _numbered(
    alike: Callable[..., KeysValues], numbered: Iterator[tuple[int, int]], parent: KeysValues | None
) -> KeysValues:
    number, window = next(numbered)
    return alike(parent, number=number, window=window)


def _of_kinds(kinds: Kinds, above: Any, alike: Callable[..., KeysValues]) -> Caches:
    """For each kind a cache, behind the one `above`."""
    parents = [None] * len(kinds) if above is None else above
    return [
        (alike(parent) if kind else None) if isinstance(kind, bool) else _of_kinds(kind, parent, alike)
        for kind, parent in zip(kinds, parents, strict=True)
    ]


def shared_masks() -> Sequence[Kernel]:
    """What takes the place of mlx-lm's masks of windows: batches and recipes whose texts are as long have one together,
    for it has a byte for each pair of tokens.
    """
    from mlx_lm.models import base, cache

    causal: Any = base.create_causal_mask
    made = functools.cache(causal)

    def mask(length: int, offset: int = 0, window_size: int | None = None, **paddings: Any) -> Any:
        if any(each is not None for each in paddings.values()):
            return causal(length, offset, window_size, **paddings)
        return made(length, offset, window_size)

    return [(base, CAUSAL, mask), (cache, CAUSAL, mask)]


def kinds(model: nn.Module, layers: int) -> Kinds:
    """Which caches a model asks for: True where it hands over keys and values, False where something else."""
    return [_kind(each) for each in _made(model, layers)]


def windows(model: nn.Module, layers: int) -> list[int]:
    """Of each cache of keys and values, in their order: how many of the newest tokens mlx-lm keeps there; 0: all."""
    return [window for each in _made(model, layers) for window in windows_in(each)]


def windows_in(cache: Any) -> Iterator[int]:
    """Of one cache of mlx-lm's, or of several that are one."""
    if (several := getattr(cache, "caches", None)) is not None:
        yield from (window for each in several for window in windows_in(each))
    elif cache is None or hasattr(cache, "update_and_fetch"):
        yield next((int(size) for name in KEEPS if (size := getattr(cache, name, None))), 0)


def _made(model: nn.Module, layers: int) -> Sequence[Any]:
    made: Sequence[Any] = model.make_cache() if hasattr(model, "make_cache") else [None] * layers
    return made


def _kind(cache: Any) -> bool | Kinds:
    several = getattr(cache, "caches", None)
    return cache is None or hasattr(cache, "update_and_fetch") if several is None else [_kind(each) for each in several]
