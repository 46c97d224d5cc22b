"""Sequences that go on from others: what they have in common is computed once.

A question's choices share its context, and a task's questions may share a preamble. Each is a batch of its own; a
branch's rows see the keys and values of the rows that they go on from. Rows of one batch may be of different lengths,
padded at their ends: a causal model's tokens cannot see what stands behind them, and a branch goes on from its row's
last token, at the position after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer]
PADDING = 2**30  # a position behind all others, which nothing sees


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """(rows, length) token ids, of which row i has `lengths[i]` (none given: all of them) and is padded at its end. Row
    i goes on from row `rows[i]` of batch `parent`; without a parent it starts anew.
    """

    tokens: Ids
    parent: int | None = None
    rows: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()


def behind_each_other(*parts: Sequence[Batch | Ids]) -> list[Batch]:
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
        self.starts: NDArray[np.int64] = starts[:, 0]  # (rows,): where the batch's own first tokens stand

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> "list[Places]":
        """Those of every batch; a branch stands behind its parent."""
        made: list[Places] = []
        for batch in batches:
            made.append(cls(batch, None if batch.parent is None else made[batch.parent]))
        return made

    def visible(self, length: int, window: int | None) -> NDArray[np.bool_]:
        """(rows, 1, length, keys): what the last `length` tokens of every row see, at most `window` of them."""
        seen, seeing = self.keys[:, None, None, :], self.keys[:, None, -length:, None]
        visible: NDArray[np.bool_] = seen <= seeing
        return visible if window is None else visible & (seen > seeing - window)
