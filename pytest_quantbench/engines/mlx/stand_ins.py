"""What takes a layer's place in a model while it is walked: mlx-lm's own code runs, and these decide how far."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from pytest_quantbench.engines.walk_proof import Anatomy


@dataclass(frozen=True, slots=True)
class Later:
    """Result `place` of a decoder layer, which is not computed yet. Models hand such results on to later layers."""

    layer: int
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments of a decoder layer, and where among them its hidden states are."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    place: int | str  # of the hidden states

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int | str | None) -> "Call":
        """Raises TypeError for a call without an array."""
        arrays = [key for key, value in _placed(args, kwargs) if isinstance(value, mx.array)]
        if not arrays:
            raise TypeError("a decoder layer is called without hidden states")
        return cls(args=args, kwargs=kwargs, place=place if place in arrays else arrays[0])

    @property
    def hidden(self) -> mx.array:
        """The hidden states."""
        found: mx.array = self.args[self.place] if isinstance(self.place, int) else self.kwargs[self.place]
        return found

    def without(self) -> "Call":
        """The call without its hidden states, which need not be held."""
        return self._with(None, lambda item: item)

    def made(self, layer: nn.Module, h: mx.array, result: Callable[[Later], Any]) -> Any:
        """Call a layer so, with these hidden states, and what is to come of layers before it filled in."""
        call = self._with(h, lambda item: result(item) if isinstance(item, Later) else item)
        return layer(*call.args, **call.kwargs)

    def _with(self, h: mx.array | None, made: Callable[[Any], Any]) -> "Call":
        args = tuple(h if place == self.place else made(item) for place, item in enumerate(self.args))
        kwargs = {key: h if key == self.place else made(item) for key, item in self.kwargs.items()}
        return Call(args=args, kwargs=kwargs, place=self.place)

    @property
    def awaited(self) -> list[Later]:
        """The results of other layers among the arguments."""
        return [item for item in (*self.args, *self.kwargs.values()) if isinstance(item, Later)]


def _placed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[int | str, Any]]:
    """Arguments by number or name."""
    yield from enumerate(args)
    yield from kwargs.items()


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
        call = Call.of(args, kwargs, self._anatomy.place)
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
    """Notes that a layer is called, how many results it has (0: no tuple), and where it got what the one before gave.
    All that stand in for the layers of a model share one list of `calls`.
    """

    def __init__(self, layer: nn.Module, index: int, calls: list["Seen"]) -> None:
        super().__init__(layer)
        self._index, self._calls = index, calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = self._calls[-1].result if self._calls else None
        places = [key for key, value in _placed(args, kwargs) if value is before is not None]
        found = self.layer(*args, **kwargs)
        outputs, result = (len(found), found[0]) if isinstance(found, tuple) else (0, found)
        self._calls.append(Seen(layer=self._index, outputs=outputs, place=places[0] if places else None, result=result))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One call of a decoder layer, seen by a spy: see Anatomy."""

    layer: int
    outputs: int
    place: int | str | None
    result: mx.array
