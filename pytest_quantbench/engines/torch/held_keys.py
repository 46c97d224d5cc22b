"""Keys and values of one batch of a track whose cache is held as a method says, in the form of Transformers' caches.

A model hands its keys and values to such a cache and gets back what attention is to see of them (see staging).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, LinearAttentionCacheLayerMixin

from pytest_quantbench.engines.batches import Batch, Places
from pytest_quantbench.engines.held_caches import HeldCache
from pytest_quantbench.engines.torch.attention import ATTENTION
from pytest_quantbench.engines.torch.kv_cache import KeysValues, layers_of
from pytest_quantbench.engines.torch.staging import Pair, Staging, are_at_once, at_once, shape_of, windows_of

States = dict[int, Callable[[], Any]]  # what layers without attention keep instead of keys and values, by number


class HeldBatch(Cache):
    """The caches of a batch, of all layers."""

    def __init__(
        self, staging: Staging, layers: "Sequence[HeldKeysValues]", states: States, windows: Mapping[int, int]
    ) -> None:
        super().__init__(layers=list(layers))
        self.staging, self._states = staging, states
        for number, layer in enumerate(layers):
            layer.staging, layer.number, layer.window = staging, number, windows.get(number, 0)
        self._begin_states()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A layer is called with this batch meanwhile."""
        with self.staging.entered():
            yield
        self._begin_states()  # what the layer has kept there, no other one wants

    def _begin_states(self) -> None:
        for index, kind in self._states.items():
            self.layers[index] = kind()


class HeldKeysValues(KeysValues):  # type: ignore[no-untyped-call]
    """One decoder layer's."""

    staging: Staging
    number: int  # of the decoder layer
    window = 0  # how many of the newest tokens the model keeps here; 0: all
    queries: torch.Tensor | None = None  # of tokens that branches go on from, where a rounding looks at them

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Pair:
        """(rows, heads, length, d) of the batch's own tokens → with those of all tokens before them, as attention is to
        see them.
        """
        staging = self.staging
        own = staging.positions[:, -key_states.shape[2] :]
        staging.held.saw(self.number, shape_of(key_states, value_states, self.window), own, staging.batch)
        forms = staging.forms_of(key_states, value_states)
        if are_at_once(forms):
            return super().update(*at_once(forms, (key_states, value_states), own))
        return staging.stage(forms, super().update(key_states, value_states), self)

    def looked(self, queries: torch.Tensor) -> torch.Tensor:
        """(rows, heads, length, d) queries of the batch's own tokens → with those of all tokens before them."""
        if self.parent is not None:
            assert isinstance(self.parent, HeldKeysValues)
            assert self.parent.queries is not None
            queries = torch.cat([self.parent.queries[self.rows], queries], dim=2)
        if self.branches:
            self.queries = queries
        return queries


def held_batches(
    held: HeldCache,
    batches: Sequence[Batch],
    places: Sequence[Places],
    layers: int,
    device: torch.device,
    model: nn.Module,
) -> list[HeldBatch]:
    """The caches of all batches of a track of this model."""
    held.begin()
    states, windows = _states(model), windows_of(model)
    made, found = layers_of(batches, places, layers, device, HeldKeysValues), []
    for number, (place, own) in enumerate(zip(places, made, strict=True)):
        staging = Staging(held, model, ATTENTION, number)
        staging.positions = place.keys
        found.append(HeldBatch(staging, own, states, windows))
    return found


def _states(model: nn.Module) -> States:
    config: Any = model.config
    kinds = {index: type(each) for index, each in enumerate(DynamicCache(config=config).layers)}
    return {index: kind for index, kind in kinds.items() if issubclass(kind, LinearAttentionCacheLayerMixin)}
