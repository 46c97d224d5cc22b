"""A model's values by their published names, and what another engine's parameters are made of them.

Engines have parameters of their own: mlx-lm stacks the gates of all experts, Transformers joins gates and ups. What one
has of a model gets to the other through the tensors that both are made of. A parameter that is several tensors put
together is taken apart again by having the engine put together numbers that tell each place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import InputRule
from pytest_quantbench.quantizers.encoding import Rules

Values = NDArray[np.float32]
DIGIT = 2**12  # places are told as two numbers, below 2^24 both: float32 has these exactly


class PublishedValues:
    """The decoded tensors of an artifact that was made of what `opened` is, in float32, by their published names."""

    def __init__(self, artifact: Artifact, opened: Architecture) -> None:
        self.artifact, self._opened = artifact, opened
        self._origins = {path: opened.origin(path) for path in artifact.names}
        self._holders: dict[str, list[str]] = {}  # by published name: the parameters that it is in
        for path, origin in self._origins.items():
            for name in origin.sources:
                self._holders.setdefault(name, []).append(path)
        self._last: tuple[str, Mapping[str, tuple[Any, Values]]] | None = None

    def values(self, name: str) -> Values:
        """One tensor. Raises ModelError where the parameters of the engine do not hold all of it."""
        found, missing = np.zeros(self._shape(name), np.float32), np.ones(self._shape(name), bool)
        for path in self._holders.get(name, []):
            places, held = self._parts(path)[name]
            found[places], missing[places] = held, False
        if missing.any():
            raise ModelError(
                f"The engine {self._opened.engine.name} holds {name} not as it is published: what it makes of this "
                f"model cannot be handed to another engine. Name the engines in the other order, with --engine."
            )
        return found

    def is_encoded(self, name: str) -> bool:
        """Whether anything of a tensor is stored otherwise than in the original."""
        stored = [self.artifact.tensor(path).quantizer for path in self._holders.get(name, [])]
        return any(each not in (None, "identity") for each in stored)

    def rule(self, name: str) -> InputRule | None:
        """What is done to the inputs of the layer that has this tensor for its matrix."""
        found = (self._rule_in(path, name) for path in self._holders.get(name, []))
        return next((rule for rule in found if rule is not None), None)

    def _rule_in(self, path: str, name: str) -> InputRule | None:
        rules, origin = self.artifact.inputs(path), self._origins[path]
        if not isinstance(rules, tuple):
            return rules
        if origin.form == "stack":
            return rules[origin.sources.index(name)]
        if any(rule != rules[0] for rule in rules):
            raise ModelError(f"{path} has inputs on other grids for each expert, which {name} alone cannot tell.")
        return rules[0]

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._opened.checkpoint.shapes[name]

    def _parts(self, path: str) -> Mapping[str, tuple[Any, Values]]:
        """Of each tensor that a parameter is made of: the places that are in it, and their values. The last parameter's
        are kept, since all of its tensors are asked for in turn.
        """
        if self._last is None or self._last[0] != path:
            self._last = path, self._taken_apart(path, self.artifact.float32(path))
        return self._last[1]

    def _taken_apart(self, path: str, held: Values) -> Mapping[str, tuple[Any, Values]]:
        form, names = self._origins[path].form, self._origins[path].sources
        if form == "stack":
            return {name: (..., matrix) for name, matrix in zip(names, held, strict=True)}
        if form in ("same", "turned"):
            return {names[0]: (..., held.T if form == "turned" else held)}
        return _found_places(self._opened, path, names, held)


def _found_places(
    opened: Architecture, path: str, names: Sequence[str], held: Values
) -> Mapping[str, tuple[Any, Values]]:
    """Where the values of a parameter belong that is put together of several tensors: the engine puts together numbers
    of their places, in two digits that are exact in float32.
    """
    shapes = [opened.checkpoint.shapes[name] for name in names]
    begins = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    numbers = {
        name: np.arange(begin, end).reshape(shape)
        for name, begin, end, shape in zip(names, begins, begins[1:], shapes, strict=False)
    }
    low = opened.made(path, {name: (each % DIGIT).astype(np.float32) for name, each in numbers.items()})
    high = opened.made(path, {name: (each // DIGIT).astype(np.float32) for name, each in numbers.items()})
    places = (high.astype(np.int64) * DIGIT + low.astype(np.int64)).ravel()
    of, parts = np.searchsorted(begins[1:], places, side="right"), {}
    for number, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        own = of == number
        parts[name] = np.unravel_index(places[own] - begins[number], shape), held.ravel()[own]
    return parts


class ForAnotherEngine:
    """An artifact's values as another engine's parameters: its `Weights`.

    What the artifact left as it was, the other engine reads by itself from the original's files, and whether that is
    the same is looked at: `differing` has the paths where it is not.
    """

    def __init__(self, published: PublishedValues, opened: Architecture) -> None:
        self._published, self._opened = published, opened
        self.config, self.names = opened.config, opened.names
        self._origins = {path: opened.origin(path) for path in opened.names}
        self._shapes = {parameter.path: parameter.shape for parameter in opened.parameters}
        self.differing: set[str] = set()
        self._seen: set[str] = set()

    def dense(self, name: str) -> Any:
        """One parameter, decoded."""
        sources = self._origins[name].sources
        if any(self._published.is_encoded(each) for each in sources):
            return self._made(name)
        own = self._opened.tensor(name)
        if name not in self._seen:
            self._seen.add(name)
            if not np.array_equal(self._opened.engine.to_host(own).astype(np.float32), self._made(name)):
                self.differing.add(name)
        return own

    def _made(self, name: str) -> Values:
        origin = self._origins[name]
        tensors = {source: self._published.values(source) for source in origin.sources}
        if origin.form == "stack":
            return np.stack(list(tensors.values()))
        if origin.form == "made":
            return self._opened.made(name, tensors).astype(np.float32, copy=False)
        only = tensors[origin.sources[0]]
        return np.ascontiguousarray(only.T) if origin.form == "turned" else only

    def inputs(self, name: str) -> Rules | None:
        """What is done to the inputs of the layer that owns it. Raises ModelError for an expert whose matrices have
        rules of their own, where the engine has them in one.
        """
        rules = [self._published.rule(source) for source in self._origins[name].sources]
        known = [rule for rule in rules if rule is not None]
        if not known:
            return None
        shape = self._shapes[name]
        if len(shape) < 3:
            return known[0]
        if len(rules) == shape[0]:
            return tuple(known)
        if any(rule != known[0] for rule in rules):
            raise ModelError(f"{name} has in one what is several matrices with inputs on grids of their own.")
        return (known[0],) * shape[0]
