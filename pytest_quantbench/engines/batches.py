"""Sequences that go on from others: what they have in common is computed once.

A question's choices share its context, and a task's questions may share a preamble. Each is a batch of its own; a
branch's rows see the keys and values of the rows that they go on from, through what mlx-lm's models take for a
key-value cache. Rows of one batch may be of different lengths, padded at their ends: a causal model's tokens cannot see
what stands behind them, and a branch goes on from its row's last token, at the position after it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

PADDING = 2**30  # a position behind all others, which nothing sees


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """(rows, length) token ids, of which row i has `lengths[i]` (none given: all of them) and is padded at its end. Row
    i goes on from row `rows[i]` of batch `parent`; without a parent it starts anew.
    """

    tokens: mx.array
    parent: int | None = None
    rows: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()


def behind_each_other(*parts: Sequence[Batch | mx.array]) -> list[Batch]:
    """The batches of all parts. A branch names its parent by the place in its own part."""
    joined: list[Batch] = []
    for part in parts:
        first = len(joined)
        for batch in part:
            whole = batch if isinstance(batch, Batch) else Batch(tokens=batch)
            joined.append(whole if whole.parent is None else replace(whole, parent=first + whole.parent))
    return joined


class Places:
    """At which positions a batch's keys stand: (rows, keys) integers, those before its own tokens included."""

    def __init__(self, batch: Batch, above: "Places | None") -> None:
        rows, width = batch.tokens.shape
        lengths = np.array(batch.lengths or (width,) * rows)[:, None]
        starts = np.zeros((rows, 1), np.int64) if above is None else above.ends[list(batch.rows)]
        own = np.where(np.arange(width) < lengths, starts + np.arange(width), PADDING)
        before = own[:, :0] if above is None else above.keys[list(batch.rows)]
        self.ends: NDArray[np.int64] = starts + lengths  # (rows, 1)
        self.keys: NDArray[np.int64] = np.concatenate([before, own], axis=1)
        self.even = bool((starts == starts[0]).all() and before.shape[1] == starts[0, 0])  # no gap, no difference
        self.start = int(starts[0, 0])
        self.offset = self.start if self.even else mx.array(starts[:, 0].astype(np.int32))
        self._masks: dict[tuple[int, int | None], mx.array] = {}

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> "list[Places]":
        """Those of every batch; a branch stands behind its parent."""
        made: list[Places] = []
        for batch in batches:
            made.append(cls(batch, None if batch.parent is None else made[batch.parent]))
        return made

    def mask(self, length: int, window: int | None) -> mx.array:
        """(rows, 1, length, keys) booleans: what the last `length` tokens of every row see. The same object every time:
        all layers and all recipes of a walk share it.
        """
        if (length, window) not in self._masks:
            seen, seeing = self.keys[:, None, None, :], self.keys[:, None, -length:, None]
            visible = seen <= seeing
            mask = visible if window is None else visible & (seen > seeing - window)
            self._masks[length, window] = mx.array(mask)
        return self._masks[length, window]


@dataclass(slots=True)
class KeysValues:
    """One decoder layer's keys and values of one batch, kept until the last branch has seen them."""

    places: Places
    parent: "KeysValues | None"
    rows: mx.array | None
    branches: int = 0  # how many still have to see them
    held: tuple[mx.array, mx.array] | None = field(default=None)

    @property
    def offset(self) -> int | mx.array:
        """The position of the batch's own first tokens: one for all rows, or (rows,)."""
        return self.places.offset

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """(rows, heads, length, d) of the batch's own tokens → with those of all tokens before them."""
        own = keys, values
        if self.parent is not None:
            assert self.parent.held is not None
            before = [part[self.rows] for part in self.parent.held]
            own = mx.concatenate([before[0], keys], axis=2), mx.concatenate([before[1], values], axis=2)
            self.parent.branches -= 1
            if not self.parent.branches:
                self.parent.held = None
        if self.branches:
            mx.eval(own)
            self.held = own
        return own

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """The causal mask of tokens that have others before them, as mlx-lm's own caches make it."""
        from mlx_lm.models.cache import create_attention_mask

        if self.places.even:
            return create_attention_mask(length, self.places.start, return_array, window_size)
        return self.places.mask(length, window_size)


def caches(batches: Sequence[Batch], places: Sequence[Places], layers: int) -> list[list[KeysValues] | None]:
    """Per batch one for every layer; None for batches that neither are a branch nor have one."""
    children = Counter(batch.parent for batch in batches)
    made: list[list[KeysValues] | None] = []
    for number, (batch, place) in enumerate(zip(batches, places, strict=True)):
        above = None if batch.parent is None else made[batch.parent]
        if above is not None:
            rows = mx.array(batch.rows)
            made.append([KeysValues(place, above[layer], rows, children[number]) for layer in range(layers)])
        elif children[number]:
            made.append([KeysValues(place, None, None, children[number]) for _ in range(layers)])
        else:
            made.append(None)
    return made
