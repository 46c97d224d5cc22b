"""What a cache that is held as a method says and the attention to it tell each other while a layer runs.

Where every query sees a token in the same form, attention gets tokens so and stays what it is. Where a token's form
depends on the query, attention gets each token once for every form (`copied`), and takes what each query sees.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from pytest_quantbench.engines.held_caches import CacheShape, HeldCache, is_at_once
from pytest_quantbench.engines.torch.cache_grids import given_back
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers.kv.protocol import PARTS, CacheForm, Integers, Part

Forms = tuple[CacheForm, CacheForm]  # of keys and of values, which may differ in size
Pair = tuple[torch.Tensor, torch.Tensor]  # keys and values, (rows, heads, tokens, d)


class Looked(Protocol):
    """A layer's cache whose rounding looks at queries."""

    def looked(self, queries: torch.Tensor) -> torch.Tensor:
        """(rows, heads, length, d) queries of a batch's own tokens → with those of all tokens before them."""


@dataclass(slots=True, kw_only=True)
class Handed:
    """What a layer's cache has given back. `forms`: how they are held; None: as attention is to see them. `looking`:
    the layer whose keys and values are still to be rounded, with the `queries` of all tokens once these are known.
    Later layers that share these keys and values see them as this layer does. `view`: what one new token sees of them.
    """

    keys: int  # where in memory they are
    forms: Forms | None
    looking: Looked | None = None
    queries: torch.Tensor | None = None
    view: Pair | None = None


class Staging:
    """Of one batch. `positions`: (rows, keys) of its own tokens and those before; `attention`: the name of the one that
    its model has to ask for, so that a token can be seen in several forms; `batch`: its number on a walk.
    """

    def __init__(self, held: HeldCache, model: nn.Module, attention: str, batch: int | None = None) -> None:
        self.held, self.batch, self._model, self._attention = held, batch, model, attention
        self.positions: Integers
        self.seen: dict[Any, Any] = {}  # by form, rows and queries: what `staged_attention` found out
        self._handed: Any = WeakTensorKeyDictionary()  # by keys, for as long as the model has them
        self._latest: Handed | None = None  # by a cache of the layer that is running
        self._stages = self._waiting = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A layer, or a model, is called with this batch meanwhile. Raises ModelError where one attended otherwise."""
        self._waiting, self._latest = False, None
        yield
        if self._waiting:
            raise self._unlike()
        self._latest = None

    def forms_of(self, keys: torch.Tensor, values: torch.Tensor) -> Forms:
        """How heads of these sizes are held."""
        return self.held.form(keys.shape[-1]), self.held.form(values.shape[-1])

    def stage(self, forms: Forms, whole: Pair, layer: Looked) -> Pair:
        """All tokens as computed → what the attention of this layer is given of them, which has to take each in the
        form in which a query sees it. Raises ModelError for a model with an attention of its own.
        """
        config: Any = self._model.config
        if self._waiting or config._attn_implementation != self._attention:
            raise self._unlike()
        self._waiting = self._stages = True
        looking = layer if looks(forms) else None
        return self._hand(whole if looking else self.copied(forms, whole), forms, looking)

    def view(self, seen: Pair) -> Pair:
        """What the one new token of each row sees, which attention takes as it is."""
        return self._hand(seen, None)

    def _hand(self, given: Pair, forms: Forms | None, looking: Looked | None = None) -> Pair:
        self._latest = Handed(keys=given[0].data_ptr(), forms=forms, looking=looking)
        self._handed[given[0]] = self._latest
        return given

    def copied(self, forms: Forms, whole: Pair, queries: torch.Tensor | None = None) -> Pair:
        """(rows, heads, keys, d) → (rows, heads, copies · keys, d): all tokens as computed, and in every stage."""
        keys = whole[0] if queries is not None else None
        found = []
        for form, part, states in zip(forms, PARTS, whole, strict=True):
            copies = [states] + [
                given_back(form, part, stage, states, self.positions, queries, keys)
                for stage in range(len(form.stages(part)))
            ]
            copies += [copies[-1]] * (copies_of(forms) - len(copies))
            found.append(torch.cat(copies, dim=2))
        return found[0], found[1]

    def of(self, keys: torch.Tensor) -> Handed | None:
        """What a cache has said of keys that attention is given: of this layer, or of the one that they are shared
        from; None: no token is held in several forms. Raises ModelError for keys that no cache has given back.
        """
        if not self._stages:
            return None
        found: Handed | None = self._handed.get(keys, self._latest)
        if found is None:
            raise self._unlike()
        return found if found.forms is not None else None

    def attended(self) -> None:
        """An attention has taken them so."""
        self._waiting = False

    def _unlike(self) -> ModelError:
        """What is said of a model that attends otherwise."""
        return ModelError(
            f"Transformers' {type(self._model).__name__} attends by code of its own, where no query can see a token in "
            f"another form than the next query does. The method {self.held.method.name} of the key-value cache needs "
            f"that here; one that holds every token in one form, such as kv8, does not."
        )


def windows_of(model: nn.Module) -> dict[int, int]:
    """By decoder layer how many of the newest tokens it keeps, where that is not all: as Transformers' own cache has it
    for this model.
    """
    config: Any = model.config
    layers = enumerate(DynamicCache(config=config).layers)
    return {number: int(each.sliding_window) for number, each in layers if isinstance(each, DynamicSlidingWindowLayer)}


def shape_of(keys: torch.Tensor, values: torch.Tensor, window: int) -> CacheShape:
    """(rows, heads, tokens, d) of a layer that keeps so many tokens → what it stores for one."""
    return keys.shape[1], keys.shape[-1], values.shape[-1], window


def are_at_once(forms: Forms) -> bool:
    """Whether every query sees a token's key and value in the same form."""
    return all(is_at_once(form, part) for form, part in zip(forms, PARTS, strict=True))


def looks(forms: Forms) -> bool:
    """Whether some rounding looks at queries."""
    stages = [stage for form, part in zip(forms, PARTS, strict=True) for stage in form.stages(part)]
    return any(stage.rounding is not None and stage.rounding.looks for stage in stages)


def copies_of(forms: Forms) -> int:
    """As computed, and once for each stage."""
    return 1 + max(len(form.stages(part)) for form, part in zip(forms, PARTS, strict=True))


def at_once(forms: Forms, states: Pair, positions: Integers) -> Pair:
    """(rows, heads, tokens, d) of tokens at these positions, in the one form in which they are seen."""
    found = [_at_once(form, part, each, positions) for form, part, each in zip(forms, PARTS, states, strict=True)]
    return found[0], found[1]


def _at_once(form: CacheForm, part: Part, states: torch.Tensor, positions: Integers) -> torch.Tensor:
    if not form.stages(part):
        return states
    rounded = given_back(form, part, 0, states, positions)
    if not form.sinks or not (positions < form.sinks).any():
        return rounded
    stays = torch.from_numpy(positions < form.sinks).to(states.device)[:, None, :, None]
    return torch.where(stays, states, rounded)
