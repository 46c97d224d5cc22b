"""Keys and values of batches that others go on from, in the form of Transformers' own caches.

Its models ask a cache for the lengths of masks and hand it their keys and values. These caches give a branch those of
the rows that it goes on from, and are let go of when the last branch has seen them.
"""

import inspect
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from transformers.cache_utils import Cache, CacheLayerMixin

from pytest_quantbench.engines.batches import Batch, Places

ARGUMENTS = ("cache", "past_key_values")  # by which name models take one, the newer first


class KeysValues(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One decoder layer's keys and values of one batch, kept until the last branch has seen them."""

    is_sliding = False

    def __init__(self, before: int, parent: "KeysValues | None", rows: torch.Tensor | None, branches: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before, self.parent, self.rows = before, parent, rows
        self.branches = branches  # how many still have to see them

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """There is nothing to prepare."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, heads, length, d) of the batch's own tokens → with those of all tokens before them."""
        own = key_states, value_states
        if self.parent is not None:
            assert self.parent.keys is not None
            assert self.parent.values is not None
            own = (
                torch.cat([self.parent.keys[self.rows], key_states], dim=2),
                torch.cat([self.parent.values[self.rows], value_states], dim=2),
            )
            self.parent.seen()
        if self.branches:
            self.keys, self.values = own
        return own

    def seen(self) -> None:
        """One branch has what it needs."""
        self.branches -= 1
        if not self.branches:
            self.keys = self.values = None

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys there are, and at which position the first stands."""
        return self.before + query_length, 0

    def get_seq_length(self) -> int:
        """How many keys stand before the batch's own."""
        return self.before

    def get_max_length(self) -> int:
        """There is no limit."""
        return -1


Kind = TypeVar("Kind", bound=KeysValues)


def argument(model: nn.Module) -> str | None:
    """By which name a model takes a cache; None: it takes none."""
    known = inspect.signature(model.forward).parameters
    return next((name for name in ARGUMENTS if name in known), None)


def caches(batches: Sequence[Batch], places: Sequence[Places], layers: int, device: torch.device) -> list[Cache | None]:
    """Per batch one with so many layers; None for batches that neither are a branch nor have one."""
    children = Counter(batch.parent for batch in batches)
    needed = [batch.parent is not None or children[number] > 0 for number, batch in enumerate(batches)]
    made = layers_of(batches, places, layers, device, KeysValues)
    return [Cache(layers=list(each)) if need else None for each, need in zip(made, needed, strict=True)]


def layers_of(
    batches: Sequence[Batch], places: Sequence[Places], layers: int, device: torch.device, kind: type[Kind]
) -> list[list[Kind]]:
    """Per batch so many of this kind, which know those of the batch that theirs goes on from."""
    children = Counter(batch.parent for batch in batches)
    made: list[list[Kind]] = []
    for number, (batch, place) in enumerate(zip(batches, places, strict=True)):
        above = None if batch.parent is None else made[batch.parent]
        before = place.keys.shape[1] - batch.tokens.shape[1]
        rows = None if above is None else torch.tensor(batch.rows, device=device)
        made.append([kind(before, None if above is None else above[i], rows, children[number]) for i in range(layers)])
    return made
