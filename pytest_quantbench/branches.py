"""Sequences that go on from others: what they have in common is computed once.

A question's choices share its context, and a task's questions may share a preamble. Each is a batch of its own; a
branch's rows see the keys and values of the rows that they go on from, through what mlx-lm's models take for a
key-value cache. Rows of one batch are of equal length, so that positions follow on without a gap.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """(rows, length) token ids. Row i goes on from row `rows[i]` of batch `parent`; without a parent it starts anew."""

    tokens: mx.array
    parent: int | None = None
    rows: tuple[int, ...] = ()


@dataclass(slots=True)
class KeysValues:
    """One decoder layer's keys and values of one batch, kept until the last branch has seen them."""

    offset: int  # where the batch's own tokens start
    parent: "KeysValues | None"
    rows: mx.array | None
    branches: int = 0  # how many still have to see them
    held: tuple[mx.array, mx.array] | None = field(default=None)

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

        return create_attention_mask(length, self.offset, return_array, window_size)


def caches(batches: Sequence[Batch], layers: int) -> list[list[KeysValues] | None]:
    """Per batch one for every layer; None for batches that neither are a branch nor have one."""
    children = Counter(batch.parent for batch in batches)
    made: list[list[KeysValues] | None] = []
    for number, batch in enumerate(batches):
        if batch.parent is not None:
            above = made[batch.parent]
            assert above is not None
            start, rows = above[0].offset + batches[batch.parent].tokens.shape[1], mx.array(batch.rows)
            made.append([KeysValues(start, above[layer], rows, children[number]) for layer in range(layers)])
        elif children[number]:
            made.append([KeysValues(0, None, None, children[number]) for _ in range(layers)])
        else:
            made.append(None)
    return made
