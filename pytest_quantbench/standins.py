"""What takes a layer's place in a model while it is walked: mlx-lm's own code runs, and these decide how far."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.experts import Routed
from pytest_quantbench.quantizers import InputRule
from pytest_quantbench.stacks import Rules


class Recorder:
    """Stands in for a decoder layer: notes its arguments and passes the hidden states through."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        self.calls.append((args, kwargs))
        self.entered = h
        return h

    def __getattr__(self, name: str) -> Any:  # models ask their layers for things such as `use_sliding`
        return getattr(self.layer, name)


class Stopped(Exception):
    """The forward pass has got as far as it should."""


class Stopper(Recorder):
    """Stands in for the last decoder layer while arguments are recorded: norm and head are not run for nothing."""

    def __call__(self, h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        super().__call__(h, *args, **kwargs)
        raise Stopped


class Injector(Recorder):
    """Stands in for the last decoder layer: answers with hidden states that were computed before."""

    answer: mx.array

    def __call__(self, h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        return self.answer


class RuledInputs(nn.Module):
    """A linear layer whose inputs go through a rule first: quantized activations."""

    def __init__(self, rule: InputRule, layer: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rule = rule
        self._layer = (layer,)  # a tuple: the layer's weights belong to the walk, not to this stand-in

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        product: mx.array = self._layer[0](self._rule(x))
        return product


class RuledExperts(nn.Module):
    """A layer of experts in front of which every expert has a rule of its own for its inputs."""

    def __init__(self, rules: tuple[InputRule, ...], layer: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rules = rules
        self._layer = (layer,)

    def __call__(self, x: mx.array, indices: mx.array, sorted_indices: bool = False) -> mx.array:
        """(…, rows, in) and the experts' numbers (…) → (…, rows, out)."""
        routed, blocks = Routed(x, indices), x.reshape(-1, *x.shape[-2:])
        parts = [self._rules[expert](blocks[mx.array(routed.sources[part])]) for expert, part in routed]
        ruled = mx.concatenate(parts)[mx.array(np.argsort(routed.order))]
        product: mx.array = self._layer[0](
            ruled.reshape(*routed.shape, *x.shape[-2:]), mx.broadcast_to(indices, routed.shape), sorted_indices
        )
        return product


def ruled(rules: Rules, layer: nn.Module) -> nn.Module:
    """The layer behind its rule, or behind those of its experts."""
    return RuledExperts(rules, layer) if isinstance(rules, tuple) else RuledInputs(rules, layer)
