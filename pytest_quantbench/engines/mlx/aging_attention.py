"""Attention whose keys and values change their form as they age: each query sees every token in the stage it is in.

mlx-lm's models hand their keys and values to a cache and what that gives back to one function of MLX's. A cache whose
tokens change their form with the query cannot give back one array for all: it gives back what it was given, and notes
here what attention is about to be called with. The function's name is made to mean ours meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.batches import Ids
from pytest_quantbench.engines.held_caches import Span, given_back, spans
from pytest_quantbench.engines.mlx.host_kernels import QUERIES, Kernel, hide, replaced, shown
from pytest_quantbench.engines.mlx.host_products import view
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, Part

ATTENTION = "scaled_dot_product_attention"
Numbers = NDArray[np.float32]
Stored = Callable[[int], Numbers]  # a stage → what is held in it, (…, tokens, channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aging:
    """Keys or values of some rows, `computed` (rows, heads, tokens, channels), and where they stand: `positions` (rows,
    tokens).
    """

    part: Part
    form: CacheForm
    computed: Numbers
    positions: Ids

    def spans(self, row: int, queries: slice, length: int) -> list[Span]:
        """In which stages some of the last `length` tokens of a row see which tokens."""
        places = self.positions[row]
        found = spans(self.form, self.part, places[len(places) - length :][queries], places)
        return [part for span in found for part in _split(span)]

    def before(self, row: int, queries: slice, length: int) -> NDArray[np.bool_]:
        """(queries, tokens): which tokens do not stand behind a query."""
        places = self.positions[row]
        found: NDArray[np.bool_] = places <= places[len(places) - length :][queries, None]
        return found

    @property
    def looks(self) -> bool:
        """Whether what it is held as depends on queries."""
        return any(stage.rounding is not None and stage.rounding.looks for stage in self.form.stages(self.part))

    def stored(self, queries: Floats | None, keys: Floats, stage: int) -> Numbers:
        """All of them as they are held in a stage; −1: as computed."""
        if stage < 0:
            return self.computed
        return given_back(self.form, self.part, stage, self.computed, self.positions, queries, keys)


def _split(span: Span) -> Iterator[Span]:
    """The tokens that every query sees so, where these come first, apart from those that some do: no mask is needed."""
    alike = 0 if span.seen is None else int(span.seen.all(axis=0).argmin())
    if span.seen is None or not alike:
        yield span
        return
    between = span.first + alike
    yield replace(span, last=between, seen=None)
    yield replace(span, first=between, seen=span.seen[:, alike:])


Noting = Callable[[mx.array], mx.array]  # a batch's own queries → those of all tokens up to them


class Expected:
    """What attention is about to be called with, and what it is to be then. `architecture`: whose attention; `most`:
    how many keys and values are remembered, where layers hand them on to later ones, which attend to them again.
    """

    def __init__(self, architecture: str, *, most: int) -> None:
        self.architecture, self._most = architecture, most
        self._handed: dict[int, Handed] = {}
        self._waiting = ""  # the method of keys and values that no attention has been called with

    def hand(self, method: str, handed: "Handed") -> None:
        """A cache is giving these back."""
        self._refuse_unseen()
        self._handed[id(handed.keys)], self._waiting = handed, method
        if len(self._handed) > self._most:
            del self._handed[next(iter(self._handed))]

    @contextmanager
    def seen(self) -> Iterator[None]:
        """Attention of what a cache gives back meanwhile sees it in its form. Raises ModelError for one that does not
        go through MLX's function.
        """
        fast: Any = mx.fast
        kernels: Sequence[Kernel] = [(fast, ATTENTION, self._instead(getattr(fast, ATTENTION)))]
        with replaced(kernels):
            yield
        self._refuse_unseen()

    def keep(self, arrays: Iterable[mx.array]) -> None:
        """Forget keys and values that are not among these, which layers to come are called with."""
        alive = {id(array) for array in arrays}
        self._handed = {key: handed for key, handed in self._handed.items() if key in alive}

    def _refuse_unseen(self) -> None:
        if self._waiting:
            method, self._waiting = self._waiting, ""
            raise ModelError(
                f"mlx-lm computes the attention of {self.architecture!r} in a way of its own, which cannot be shown "
                f"keys and values that change their form with the query, as those of the method {method} do. Take "
                f"--engine torch, or a recipe that rounds each token once and for all, such as kv8."
            )

    def _instead(self, otherwise: Callable[..., mx.array]) -> Callable[..., mx.array]:
        def attend(q: mx.array, k: mx.array, v: mx.array, **how: Any) -> mx.array:
            handed = self._handed.get(id(k))
            if handed is None or handed.keys is not k or handed.values is not v:
                return otherwise(q, k, v, **how)
            self._waiting = ""
            return handed.attending(q, **how)

        return attend


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """Keys and values that a cache gives back as they are, and what attention to them is, of the queries."""

    keys: mx.array
    values: mx.array
    attending: Callable[..., mx.array]


def attention(
    queries: mx.array,
    keys: Aging,
    values: Aging,
    *,
    scale: float,
    mask: mx.array | str | None = None,
    sinks: mx.array | None = None,
    noting: Noting | None = None,
) -> mx.array:
    """softmax(scale · Q Kᵀ + mask) V in float32, where each query sees every token in its stage, and none behind it.

    `queries` (rows, heads, L, d) of the last L tokens. `mask`: None, "causal", True where a key is seen, or a number to
    add, that broadcasts to (rows, heads, L, tokens). `sinks` (heads,): one more score of each head, without a value.
    `noting` gives the queries of all tokens, for methods that look at them.
    """
    q = _float32(queries)
    looked = _float32(noting(queries)) if noting is not None and (keys.looks or values.looks) else None
    length = q.shape[2]
    of_keys, of_values = (cache(partial(each.stored, looked, keys.computed)) for each in (keys, values))
    hidden = shown(mask, (*q.shape[:3], keys.positions.shape[1]))
    extra = None if sinks is None else _float32(sinks)
    out = np.empty((*q.shape[:3], values.computed.shape[-1]), np.float32)
    for first in range(0, length, QUERIES):
        some = slice(first, min(first + QUERIES, length))
        for row in range(len(q)):
            seen = keys.spans(row, some, length), values.spans(row, some, length)
            before = keys.before(row, some, length)
            for head, group in _groups(q.shape[1], keys.computed.shape[1]):
                scores = _scores(q[row, group, some], seen[0], _of(of_keys, row, head), keys.positions.shape[1])
                scores *= np.float32(scale)
                hide(scores, before if hidden is None else hidden[row, group, some])
                _shares(scores, None if extra is None else extra[group])
                out[row, group, some] = _weighted(scores, seen[1], _of(of_values, row, head), out.shape[-1])
    return mx.array(out).astype(queries.dtype)


def _groups(heads: int, key_heads: int) -> Iterator[tuple[int, slice]]:
    """Each key head, and the query heads that share it."""
    shared = heads // key_heads
    return ((head, slice(head * shared, (head + 1) * shared)) for head in range(key_heads))


def _of(stages: Stored, row: int, head: int) -> Stored:
    """One head's share."""
    return lambda stage: stages(stage)[row, head]


def _scores(q: Numbers, seen: Sequence[Span], keys: Stored, tokens: int) -> Numbers:
    """(heads, queries, d) → (heads, queries, tokens); −∞ where a query sees nothing."""
    heads, count, size = q.shape
    scores = np.full((heads, count, tokens), -np.inf, np.float32)
    for span in seen:
        into = scores[:, :, span.first : span.last]
        own = (q.reshape(-1, size) @ keys(span.stage)[span.first : span.last].T).reshape(into.shape)
        np.copyto(into, own, where=True if span.seen is None else span.seen)
    return scores


def _weighted(shares: Numbers, seen: Sequence[Span], values: Stored, channels: int) -> Numbers:
    """(heads, queries, tokens) → (heads, queries, channels)."""
    heads, count, _ = shares.shape
    found = np.zeros((heads * count, channels), np.float32)
    for span in seen:
        own = shares[:, :, span.first : span.last]
        own = own if span.seen is None else own * span.seen
        found += own.reshape(heads * count, -1) @ values(span.stage)[span.first : span.last]
    return found.reshape(heads, count, -1)


def _shares(scores: Numbers, extra: Numbers | None) -> None:
    """Softmax in place over the last axis; `extra` (heads,): one more score of each head. A query that only pads a row
    may see nothing at all.
    """
    largest = scores.max(axis=-1, keepdims=True)
    if extra is not None:
        largest = np.maximum(largest, extra[:, None, None])
    np.copyto(largest, 0, where=np.isneginf(largest))
    scores -= largest
    np.exp(scores, out=scores)
    total = scores.sum(axis=-1, keepdims=True)
    if extra is not None:
        total += np.exp(extra[:, None, None] - largest)
    scores /= np.maximum(total, np.finfo(np.float32).tiny)


def _float32(array: mx.array) -> Numbers:
    return view(array.astype(mx.float32))
