"""The static cache of written answers, held as a method says: a token is rounded when it enters a stage, and not again.

Beside keys and values as computed, a layer holds what the latest token of each row sees of them. The next token adds
itself, and has those rounded that have gone into a stage with it: mostly none, or one, or a whole chunk. While prompts
are read, many tokens look at once, each at its own stages: then attention is the walk's (`staged_attention`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_quantbench.engines.held_caches import HeldCache
from pytest_quantbench.engines.torch import static_cache
from pytest_quantbench.engines.torch.attention import attending
from pytest_quantbench.engines.torch.cache_grids import given_back
from pytest_quantbench.engines.torch.staged_attention import attend
from pytest_quantbench.engines.torch.staging import (
    Forms,
    Pair,
    Staging,
    are_at_once,
    at_once,
    looks,
    shape_of,
    windows_of,
)
from pytest_quantbench.quantizers.kv.protocol import PARTS

NOTHING = -2  # the latest token of a row of which nothing is seen yet


class HeldStaticCache(static_cache.StaticCache):
    """Of rows of texts. Before a forward pass all is as in a `StaticCache`, and the pass runs `reading` it."""

    def __init__(
        self, layers: int, rows: int, length: int, positions: torch.Tensor, held: HeldCache, model: nn.Module
    ) -> None:
        self.staging, self.latest = Staging(held, model, static_cache.NAME), list[int]()
        super().__init__(layers, rows, length, positions)
        windows = windows_of(model)
        for number, layer in enumerate(self.kept):
            assert isinstance(layer, HeldKept)
            layer.number, layer.window = number, windows.get(number, 0)

    def _layer(self) -> "HeldKept":
        return HeldKept(self)

    @contextmanager
    def reading(self, positions: torch.Tensor) -> Iterator[None]:
        """A forward pass of tokens at these (rows, tokens) positions meanwhile."""
        self.staging.positions = np.tile(np.arange(self.seen), (len(positions), 1))
        self.staging.seen.clear()
        self.latest = positions[:, -1].tolist()
        with self.staging.entered(), attending(partial(_attend, self.staging)):
            yield


class HeldKept(static_cache.Kept):  # type: ignore[no-untyped-call]
    """One layer's: `keys` and `values` as computed, and `views` of both."""

    _cache: HeldStaticCache
    number: int
    window: int  # how many of the newest tokens the model keeps here; 0: all
    views: Pair
    queries: torch.Tensor | None = None  # where a rounding looks at them
    forms: Forms | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the memory."""
        super().lazy_initialization(key_states, value_states)
        self.forms = self._cache.staging.forms_of(key_states, value_states)
        self._of = [NOTHING] * self._cache.rows  # which token each row's view is of
        if not are_at_once(self.forms):
            self.views = torch.zeros_like(self.keys), torch.zeros_like(self.values)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **named: Any) -> Pair:
        """Write the new (rows, heads, tokens, width) to their places; what attention is to see."""
        staging = self._cache.staging
        forms = staging.forms_of(key_states, value_states)
        positions = self._cache.positions.cpu().numpy()
        staging.held.saw(self.number, shape_of(key_states, value_states, self.window), positions)
        if are_at_once(forms):
            return super().update(*at_once(forms, (key_states, value_states), positions))
        whole = super().update(key_states, value_states)
        if key_states.shape[2] > 1 or looks(forms):
            self._forget()
            return staging.stage(forms, whole, self)
        return staging.view(self.view())

    def looked(self, queries: torch.Tensor) -> torch.Tensor:
        """(rows, heads, tokens, width) of the new tokens → those of all that are there."""
        if self.queries is None:
            _, heads, _, width = queries.shape
            self.queries = queries.new_zeros(self._cache.rows, heads, self._cache.length, width)
        mine = self.queries[self._rows(len(queries))]
        places = self._cache.positions.expand(len(queries), -1)[:, None, :, None].expand_as(queries)
        mine.scatter_(2, places, queries)
        return mine[:, :, : self._cache.seen]

    def view(self) -> Pair:
        """What each row's new token sees."""
        assert self.forms is not None
        latest = self._cache.latest
        rows = self._rows(len(latest))
        for row, token in zip(range(rows.start, rows.stop), latest, strict=True):
            goes_on = self._of[row] == token - 1
            for form, name, whole, view in zip(self.forms, PARTS, (self.keys, self.values), self.views, strict=True):
                first = token if goes_on else 0
                view[row, :, first : token + 1] = whole[row, :, first : token + 1]
                before, now = (form.entered(name, np.array([each]))[:, 0] for each in (token - 1, token))
                for stage in range(len(now)):
                    self._enter(row, form, name, stage, int(before[stage]) if goes_on else 0, now)
            self._of[row] = token
        keys, values = (view[rows, :, : self._cache.seen] for view in self.views)
        return keys, values

    def _enter(self, row: int, form: Any, part: Any, stage: int, first: int, now: Any) -> None:
        """Round a row's tokens from `first` on that have gone into a stage, but for those that have gone on already."""
        last, gone = int(now[stage]), int(max(now[stage + 1 :], default=0))
        if last <= max(first, gone):
            return
        index = PARTS.index(part)
        looked = [None, None] if self.queries is None else [self.queries, self.keys]
        some = [None if each is None else each[row : row + 1, :, first:last] for each in looked]
        states = (self.keys, self.values)[index][row : row + 1, :, first:last]
        found = given_back(form, part, stage, states, np.arange(last - first)[None], *some)
        begin = max(first, gone, form.sinks)
        if begin < last:
            self.views[index][row, :, begin:last] = found[0, :, begin - first :]

    def move(self, source: int, target: int) -> None:
        """Copy a row with its view."""
        super().move(source, target)
        for each in self._others():
            each[target] = each[source]
        if self.is_initialized:
            self._of[target] = self._of[source]

    def take(self, other: Any, rows: int, length: int) -> None:
        """Copy the first rows of another, up to this length."""
        super().take(other, rows, length)
        if other.is_initialized and other.queries is not None:
            shape = other.queries.shape
            self.queries = other.queries.new_zeros(self._cache.rows, shape[1], self._cache.length, shape[3])
            self.queries[:rows, :, :length] = other.queries[:rows, :, :length]

    def _others(self) -> list[torch.Tensor]:
        """What is held by row besides keys and values."""
        views = [] if self.forms is None or are_at_once(self.forms) else list(self.views)
        return views if self.queries is None else [*views, self.queries]

    def _rows(self, count: int) -> slice:
        return slice(self._cache.first, self._cache.first + count)

    def _forget(self) -> None:
        rows = self._rows(len(self._cache.latest))
        self._of[rows] = [NOTHING] * (rows.stop - rows.start)


def _attend(staging: Staging, module: nn.Module, query: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor | None:
    """As `staged_attention.attend`; the one new token of each row, where its queries had to be known, has a view."""
    handed = staging.of(rest[0])
    layer = None if handed is None or handed.keys != rest[0].data_ptr() else handed.looking
    if query.shape[2] > 1 or handed is None or not isinstance(layer, HeldKept):
        return attend(staging, module, query, *rest, **named)
    if handed.view is None:  # later layers that share the keys see what this one does
        layer.looked(query)
        handed.view = staging.view(layer.view())
    staging.attended()
    plain: Callable[..., static_cache.Attended] = static_cache.attention
    return plain(module, query, *handed.view, *rest[2:], **named)[0]
