"""Attention whose keys and values change their form as they age: each query sees every token in the stage it is in.

mlx-lm's models hand their keys and values to a cache and what that gives back to one function of MLX's. A cache whose
tokens change their form with the query cannot give back one array for all: it gives back what it was given, and notes
here what attention is about to be called with. The function's name is made to mean ours meanwhile.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.batches import Ids
from pytest_quantbench.engines.held_caches import Span, spans
from pytest_quantbench.engines.mlx.held_numbers import stored
from pytest_quantbench.engines.mlx.host_kernels import QUERIES, Kernel, replaced
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
        return list(spans(self.form, self.part, places[len(places) - length :][queries], places))

    def stored(self, queries: Floats | None, stage: int) -> Numbers:
        """All of them as they are held in a stage; −1: as computed."""
        return stored(self.form, self.part, stage, self.computed, self.positions, queries)


class Expected:
    """What attention is about to be called with, and in which form it is to see that."""

    def __init__(self) -> None:
        self._pair: tuple[mx.array, mx.array] | None = None
        self._aging: tuple[Aging, Aging] | None = None

    def hand(self, keys: mx.array, values: mx.array, aging: tuple[Aging, Aging]) -> None:
        """A cache is giving these back."""
        self.refuse_unseen()
        self._pair, self._aging = (keys, values), aging

    @contextmanager
    def seen(self) -> Iterator[None]:
        """Attention of what a cache gives back meanwhile sees it in its form."""
        fast: Any = mx.fast
        kernels: Sequence[Kernel] = [(fast, ATTENTION, self._instead(getattr(fast, ATTENTION)))]
        with replaced(kernels):
            yield
        self.refuse_unseen()

    def refuse_unseen(self) -> None:
        """Raise ModelError where attention has been computed by something else."""
        if self._pair is not None:
            self._pair = self._aging = None
            raise ModelError(
                "mlx-lm computes this model's attention in a way of its own, which cannot be shown keys and values that "
                "change their form as they age. Take --engine torch for this recipe."
            )

    def _instead(self, otherwise: Callable[..., mx.array]) -> Callable[..., mx.array]:
        def attend(q: mx.array, k: mx.array, v: mx.array, **how: Any) -> mx.array:
            if self._pair is None or self._aging is None or k is not self._pair[0] or v is not self._pair[1]:
                return otherwise(q, k, v, **how)
            aging, self._pair, self._aging = self._aging, None, None
            return attention(q, *aging, **how)

        return attend


def attention(
    queries: mx.array,
    keys: Aging,
    values: Aging,
    *,
    scale: float,
    mask: mx.array | str | None = None,
    sinks: mx.array | None = None,
) -> mx.array:
    """softmax(scale · Q Kᵀ + mask) V in float32, where each query sees every token in its stage, and none behind it.

    `queries` (rows, heads, L, d) of the last L tokens. `mask`: None, "causal", True where a key is seen, or a number to
    add, that broadcasts to (rows, heads, L, tokens). `sinks` (heads,): one more score of each head, without a value.
    """
    q = _float32(queries)
    length = q.shape[2]
    of_keys, of_values = (cache(partial(each.stored, q)) for each in (keys, values))
    hidden = _hidden(mask, (*q.shape[:3], keys.positions.shape[1]))
    extra = None if sinks is None else _float32(sinks)
    out = np.empty((*q.shape[:3], values.computed.shape[-1]), np.float32)
    for first in range(0, length, QUERIES):
        some = slice(first, min(first + QUERIES, length))
        for row in range(len(q)):
            seen = keys.spans(row, some, length), values.spans(row, some, length)
            for head, group in _groups(q.shape[1], keys.computed.shape[1]):
                scores = _scores(q[row, group, some], seen[0], _of(of_keys, row, head), keys.positions.shape[1])
                scores *= np.float32(scale)
                if hidden is not None:
                    scores += hidden[row, group, some]
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


def _hidden(mask: mx.array | str | None, shape: tuple[int, ...]) -> Numbers | None:
    """What is added to scores; what lies behind a query is hidden anyhow."""
    if mask is None or isinstance(mask, str):
        return None
    numbers = mx.where(mask, 0.0, -mx.inf) if mask.dtype == mx.bool_ else mask.astype(mx.float32)
    return np.broadcast_to(view(numbers), shape)


def _float32(array: mx.array) -> Numbers:
    return view(array.astype(mx.float32))
