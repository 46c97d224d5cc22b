"""What takes the place of a layer's own code while a model is walked: Transformers' code runs around it.

A layer's `forward` is exchanged; the layer stays in its list, and is asked for its class and attributes as ever.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pytest_quantbench.engines.calls import Call, Later
from pytest_quantbench.engines.walk_proof import Anatomy

Forward = Callable[..., Any]


class Stopped(Exception):
    """The forward pass has got as far as it should."""


class Recorder:
    """Notes a layer's arguments at one turn of a loop over the layers, and passes the hidden states through at every
    one. `kept` makes of an argument what is held of it. `answer`: hidden states that it gives instead. With `stops` the
    forward pass ends at that turn.
    """

    answer: torch.Tensor | None = None

    def __init__(
        self, index: int, anatomy: Anatomy, kept: Callable[[Any], Any], turn: int = 0, stops: bool = False
    ) -> None:
        self.calls: list[Call] = []
        self.turns = 0  # of this forward pass
        self.entered: torch.Tensor | None = None
        self._index, self._anatomy, self._kept, self._turn, self._stops = index, anatomy, kept, turn, stops

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = Call.of(args, kwargs, self._anatomy.place, torch.Tensor)
        if self.turns == self._turn:
            self.entered = call.hidden
            self.calls.append(call.without(self._kept))
            if self._stops:
                raise Stopped
        self.turns += 1
        # a new object even where it passes through, to be told from what came in
        return self._returned(call.hidden.view_as(call.hidden) if self.answer is None else self.answer)

    def _returned(self, h: torch.Tensor) -> Any:
        """What the layer would return, its hidden states being these."""
        count = self._anatomy.outputs
        return (h, *(Later(self._index, place) for place in range(1, count))) if count else h


@contextmanager
def standing_in(layers: Sequence[nn.Module], forwards: Sequence[Forward]) -> Iterator[None]:
    """Calls of these layers go to other functions meanwhile."""
    before = [layer.__dict__.get("forward") for layer in layers]
    for layer, forward in zip(layers, forwards, strict=True):
        layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                del layer.__dict__["forward"]
            else:
                layer.__dict__["forward"] = own
