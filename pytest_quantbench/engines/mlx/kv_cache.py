"""Keys and values of batches that others go on from, in the form of mlx-lm's own key-value caches.

mlx-lm's models ask a cache for positions and masks and hand it their keys and values. These caches give a branch those
of the rows that it goes on from, and are let go of when the last branch has seen them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from pytest_quantbench.engines.batches import Batch, Places


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


@dataclass(slots=True)
class KeysValues:
    """One decoder layer's keys and values of one batch, kept until the last branch has seen them."""

    positions: Positions
    parent: "KeysValues | None"
    rows: mx.array | None
    branches: int = 0  # how many still have to see them
    held: tuple[mx.array, mx.array] | None = field(default=None)

    @property
    def offset(self) -> int | mx.array:
        """The position of the batch's own first tokens: one for all rows, or (rows,)."""
        return self.positions.offset

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

        places = self.positions.places
        if places.even:
            return create_attention_mask(length, places.start, return_array, window_size)
        return self.positions.mask(length, window_size)


def caches(batches: Sequence[Batch], positions: Sequence[Positions], layers: int) -> list[list[KeysValues] | None]:
    """Per batch one for every layer; None for batches that neither are a branch nor have one."""
    children = Counter(batch.parent for batch in batches)
    made: list[list[KeysValues] | None] = []
    for number, (batch, place) in enumerate(zip(batches, positions, strict=True)):
        above = None if batch.parent is None else made[batch.parent]
        if above is not None:
            rows = mx.array(batch.rows)
            made.append([KeysValues(place, above[layer], rows, children[number]) for layer in range(layers)])
        elif children[number]:
            made.append([KeysValues(place, None, None, children[number]) for _ in range(layers)])
        else:
            made.append(None)
    return made
