"""What takes a layer's place in a model while it is walked: mlx-lm's own code runs, and these decide how far."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.quantizers import InputRule


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
