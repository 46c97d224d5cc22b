"""With which arguments a model calls its decoder layers, as a walk records them and calls the layers itself later."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


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
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int | str | None, array: type) -> "Call":
        """The hidden states are at `place`, or else the first `array`. Raises TypeError for a call without any."""
        arrays = [key for key, value in placed(args, kwargs) if isinstance(value, array)]
        if not arrays:
            raise TypeError("a decoder layer is called without hidden states")
        return cls(args=args, kwargs=kwargs, place=place if place in arrays else arrays[0])

    @property
    def hidden(self) -> Any:
        """The hidden states."""
        return self.args[self.place] if isinstance(self.place, int) else self.kwargs[self.place]

    def without(self, kept: Callable[[Any], Any] = lambda item: item) -> "Call":
        """The call without its hidden states, which need not be held; of the other arguments what `kept` makes."""
        return self._with(None, kept)

    def made(self, layer: Callable[..., Any], h: Any, result: Callable[[Later], Any]) -> Any:
        """Call a layer so, with these hidden states, and what is to come of layers before it filled in."""
        call = self._with(h, lambda item: result(item) if isinstance(item, Later) else item)
        return layer(*call.args, **call.kwargs)

    def _with(self, h: Any, made: Callable[[Any], Any]) -> "Call":
        args = tuple(h if place == self.place else made(item) for place, item in enumerate(self.args))
        kwargs = {key: h if key == self.place else made(item) for key, item in self.kwargs.items()}
        return Call(args=args, kwargs=kwargs, place=self.place)

    @property
    def awaited(self) -> list[Later]:
        """The results of other layers among the arguments."""
        return [item for item in (*self.args, *self.kwargs.values()) if isinstance(item, Later)]


def placed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[int | str, Any]]:
    """Arguments by number or name."""
    yield from enumerate(args)
    yield from kwargs.items()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One call of a decoder layer, as it was watched in a whole forward pass: see `Anatomy`."""

    layer: int
    outputs: int
    place: int | str | None
    result: Any


def watched(layer: Callable[..., Any], index: int, seen: list[Seen]) -> Callable[..., Any]:
    """The layer, noting when it is called how many results it has (0: no tuple), and where it got what the one before
    gave. All layers of a model share one list.
    """

    def watching(*args: Any, **kwargs: Any) -> Any:
        before = seen[-1].result if seen else None
        places = [key for key, value in placed(args, kwargs) if value is before is not None]
        found = layer(*args, **kwargs)
        outputs, result = (len(found), found[0]) if isinstance(found, tuple) else (0, found)
        seen.append(Seen(layer=index, outputs=outputs, place=places[0] if places else None, result=result))
        return found

    return watching
