"""What takes a layer's place in a model while it is walked: mlx-lm's own code runs, and these decide how far."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.engines.calls import Call, Later, Seen, watched
from pytest_quantbench.engines.walk_proof import Anatomy


class StandIn:
    """Stands in for a decoder layer, and is one for whoever asks for its class or its attributes."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Models choose a layer's mask by what `isinstance` says of it."""
        return type(self.layer)

    def __getattr__(self, name: str) -> Any:  # models ask their layers for things such as `use_sliding`
        return getattr(self.layer, name)


class Recorder(StandIn):
    """Notes its arguments at one turn of a loop over the layers, and passes the hidden states through at every one."""

    def __init__(self, layer: nn.Module, index: int, anatomy: Anatomy, turn: int = 0) -> None:
        super().__init__(layer)
        self.calls: list[Call] = []
        self.turns = 0  # of this forward pass
        self._index, self._anatomy, self._turn = index, anatomy, turn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = Call.of(args, kwargs, self._anatomy.place, mx.array)
        if self.turns == self._turn:
            self.entered = call.hidden
            self.calls.append(call.without())
        self.turns += 1
        return self.returned(mx.stop_gradient(call.hidden))  # another object than what came in, to be told from it

    def returned(self, h: mx.array) -> Any:
        """What the layer would return, its hidden states being these."""
        count = self._anatomy.outputs
        return (h, *(Later(self._index, place) for place in range(1, count))) if count else h


class Stopped(Exception):
    """The forward pass has got as far as it should."""


class Stopper(Recorder):
    """Stands in for the last decoder layer while arguments are recorded: what comes behind is not run for nothing.

    `answer`: hidden states that it gave one turn before this one.
    """

    answer: mx.array | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        turn = self.turns
        passed = super().__call__(*args, **kwargs)
        if turn == self._turn:
            raise Stopped
        return passed if self.answer is None else self.returned(self.answer)


class Injector(Recorder):
    """Stands in for the last decoder layer: answers with hidden states that were computed before."""

    answer: mx.array

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.returned(self.answer)


class Spy(StandIn):
    """A layer that is watched: see `watched`."""

    def __init__(self, layer: nn.Module, index: int, seen: list[Seen]) -> None:
        super().__init__(layer)
        self._watching = watched(layer, index, seen)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._watching(*args, **kwargs)
