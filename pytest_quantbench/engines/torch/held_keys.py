"""Keys and values of one batch of a track whose cache is held as a method says, in the form of Transformers' caches.

A model hands its keys and values to such a cache and gets back what attention is to see of them. Where every query sees
a token in the same form, that is all there is to it, and attention stays what it was. Where a token's form depends on
the query, the cache gives back each token once for every form, and `staged_attention` takes what each query sees.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, LinearAttentionCacheLayerMixin

from pytest_quantbench.engines.batches import Batch, Places
from pytest_quantbench.engines.held_caches import HeldCache, is_at_once
from pytest_quantbench.engines.torch.attention import ATTENTION
from pytest_quantbench.engines.torch.cache_grids import given_back
from pytest_quantbench.engines.torch.kv_cache import KeysValues, layers_of
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Part

PARTS: tuple[Part, Part] = ("keys", "values")
Forms = tuple[CacheForm, CacheForm]  # of keys and of values, which may differ in size


class HeldBatch(Cache):
    """The caches of a batch, of all layers. `positions`: (rows, keys) of the batch's own tokens and those before."""

    def __init__(self, held: HeldCache, places: Places, layers: "Sequence[HeldKeysValues]", model: nn.Module) -> None:
        super().__init__(layers=list(layers))
        self.held, self.positions, self._model = held, places.keys, model
        self._states = _states(model)
        self._begin_states()
        self.forms: Forms | None = None
        self.given: tuple[torch.Tensor, torch.Tensor] | None = None  # what the model has to attend to
        self.looking: HeldKeysValues | None = None  # whose keys and values are still to be rounded, with the queries
        self.seen: dict[Any, Any] = {}  # by form, rows and queries: what `staged_attention` found out
        self._waiting = False
        for number, layer in enumerate(layers):
            layer.batch, layer.number = self, number

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A layer is called with this batch meanwhile. Raises ModelError where that attended in another way."""
        self._waiting, self.looking = False, None
        yield
        if self._waiting:
            raise self.unlike()
        self.given = self.looking = None
        self._begin_states()  # what the layer has kept there, no other one wants

    def _begin_states(self) -> None:
        for index, kind in self._states.items():
            self.layers[index] = kind()

    def stage(self, forms: Forms) -> None:
        """The attention of this layer has to take each token in the form in which a query sees it."""
        if not attends_so(self._model):
            raise self.unlike()
        self.forms, self._waiting = forms, True

    @property
    def copies(self) -> int:
        """How often attention is given each token."""
        assert self.forms is not None
        return 1 if self.looking else copies_of(self.forms)

    def is_staged(self, keys: int) -> bool:
        """Whether an attention to so many keys is to be one to tokens in several forms."""
        return self.forms is not None and keys == self.copies * self.positions.shape[1]

    def attended(self) -> None:
        """An attention has taken them so."""
        self._waiting = False
        self.held.engaged += 1

    def unlike(self) -> ModelError:
        """What is said of a model that attends otherwise."""
        return ModelError(
            f"Transformers' {type(self._model).__name__} attends by code of its own, where no query can see a token in "
            f"another form than the next query does. The method {self.held.method.name} of the key-value cache needs "
            f"that here; one that holds every token in one form, such as kv8, does not."
        )


def attends_so(model: nn.Module) -> bool:
    """Whether a model asks for the attention that is registered for walks."""
    config: Any = model.config
    return bool(config._attn_implementation == ATTENTION)


def _states(model: nn.Module) -> dict[int, Callable[[], Any]]:
    """What layers without attention keep instead of keys and values, by their number."""
    config: Any = model.config
    kinds = {index: type(each) for index, each in enumerate(DynamicCache(config=config).layers)}
    return {index: kind for index, kind in kinds.items() if issubclass(kind, LinearAttentionCacheLayerMixin)}


def copies_of(forms: Forms) -> int:
    """As computed, and once for each stage."""
    return 1 + max(len(form.stages(part)) for form, part in zip(forms, PARTS, strict=True))


class HeldKeysValues(KeysValues):  # type: ignore[no-untyped-call]
    """One decoder layer's."""

    batch: HeldBatch
    number: int  # of the decoder layer
    queries: torch.Tensor | None = None  # of tokens that branches go on from, where a rounding looks at them

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, heads, length, d) of the batch's own tokens → with those of all tokens before them, as attention is to
        see them.
        """
        held, states = self.batch.held, (key_states, value_states)
        held.saw(self.number, key_states.shape[1], key_states.shape[-1], value_states.shape[-1])
        forms = held.form(key_states.shape[-1]), held.form(value_states.shape[-1])
        if all(is_at_once(form, part) for form, part in zip(forms, PARTS, strict=True)):
            own = self.batch.positions[:, -key_states.shape[2] :]
            held.engaged += 1
            return super().update(
                *(_at_once(form, part, each, own) for form, part, each in zip(forms, PARTS, states, strict=True))
            )
        self.batch.stage(forms)
        whole = super().update(*states)
        if any(_looks(form, part) for form, part in zip(forms, PARTS, strict=True)):
            self.batch.looking, given = self, whole
        else:
            given = self.copied(forms, whole)
        self.batch.given = given
        return given

    def copied(
        self, forms: Forms, whole: tuple[torch.Tensor, torch.Tensor], queries: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, heads, keys, d) → (rows, heads, copies · keys, d): all tokens as computed, and in every stage."""
        keys = whole[0] if queries is not None else None
        found = []
        for form, part, states in zip(forms, PARTS, whole, strict=True):
            copies = [states] + [
                given_back(form, part, stage, states, self.batch.positions, queries, keys)
                for stage in range(len(form.stages(part)))
            ]
            copies += [copies[-1]] * (copies_of(forms) - len(copies))
            found.append(torch.cat(copies, dim=2))
        return found[0], found[1]

    def looked(self, queries: torch.Tensor) -> torch.Tensor:
        """(rows, heads, length, d) queries of the batch's own tokens → with those of all tokens before them."""
        if self.parent is not None:
            assert isinstance(self.parent, HeldKeysValues)
            assert self.parent.queries is not None
            queries = torch.cat([self.parent.queries[self.rows], queries], dim=2)
        if self.branches:
            self.queries = queries
        return queries


def _looks(form: CacheForm, part: Part) -> bool:
    return any(stage.rounding is not None and stage.rounding.looks for stage in form.stages(part))


def _at_once(form: CacheForm, part: Part, states: torch.Tensor, positions: NDArray[np.int64]) -> torch.Tensor:
    """The batch's own tokens; the first ones of a text may stay as they are."""
    if not form.stages(part):
        return states
    rounded = given_back(form, part, 0, states, positions)
    if not form.sinks or not (positions < form.sinks).any():
        return rounded
    stays = torch.from_numpy(positions < form.sinks).to(states.device)[:, None, :, None]
    return torch.where(stays, states, rounded)


def held_batches(
    held: HeldCache,
    batches: Sequence[Batch],
    places: Sequence[Places],
    layers: int,
    device: torch.device,
    model: nn.Module,
) -> list[HeldBatch]:
    """The caches of all batches of a track of this model."""
    made = layers_of(batches, places, layers, device, HeldKeysValues)
    return [HeldBatch(held, place, own, model) for place, own in zip(places, made, strict=True)]
