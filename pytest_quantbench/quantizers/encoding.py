"""What a method made of one parameter: of a matrix (out, in), or of a stack of matrices (experts, out, in).

Every matrix of a stack is encoded by itself. Arrays that have one shape and one type for all of them are stored as one
array, experts first, which is the form of MLX's own quantized experts; others, such as lists whose length depends on
the weights, are stored for each expert under its number, as in `super_places[3]`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import InputRule, Layer
from pytest_quantbench.quantizers.protocol import Array, Arrays, Codec

_NUMBERED = re.compile(r"(.+)\[(\d+)\]")
Rules: TypeAlias = InputRule | tuple[InputRule, ...]  # of a matrix, or of every matrix of a stack


def named(path: str, expert: int) -> str:
    """The name of one expert's matrix, or of its layer: `…switch_mlp.up_proj[3]`."""
    return f"{path}[{expert}]"


def parsed(name: str) -> tuple[str, int | None]:
    """The path and the expert of a name; None where it is not one expert's."""
    found = _NUMBERED.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The arrays of a parameter of this shape, and what reads them: the method, or the codec of a file's format."""

    codec: Codec
    arrays: Arrays
    shape: tuple[int, ...]

    @property
    def matrices(self) -> list[Arrays]:
        """The arrays of each matrix."""
        return split(self.arrays, self.shape[0]) if len(self.shape) == 3 else [self.arrays]

    def dense(self) -> Array:
        """The decoded parameter, as the method defines it."""
        if len(self.shape) == 2 or self.codec.name == "identity":
            return self.codec.decode(self.arrays)
        return np.stack([self.codec.decode(arrays) for arrays in self.matrices])

    def layers(self) -> list[Layer | None]:
        """How each matrix can be run as it is stored; None: decoded. Raises QuantbenchError for an input rule of which
        the method's class says nothing.
        """
        return [self._layer(arrays) for arrays in self.matrices]

    def check_input_rule(self) -> None:
        """Raise that, of the first matrix: what is not announced would be left out of a walk."""
        self._layer(self.matrices[0])

    def _layer(self, arrays: Arrays) -> Layer | None:
        layer = self.codec.layer(arrays)
        if layer is not None and layer.input_rule is not None and not self.codec.has_input_rule:
            raise QuantbenchError(
                f"{self.codec.name} describes layers with an input rule, {layer.input_rule}, and its class says "
                f"nothing of that: give it has_input_rule = True."
            )
        return layer

    def inputs(self) -> Rules | None:
        """What is done to the inputs of the layer; None: nothing."""
        if not self.codec.has_input_rule:
            return None  # without describing any layer
        rules = tuple(layer.input_rule for layer in self.layers() if layer is not None)
        known = tuple(rule for rule in rules if rule is not None)
        if not known:
            return None
        return known if len(self.shape) == 3 else known[0]

    def note(self) -> str:
        """Where the method had to differ from its parameters; empty if nowhere."""
        out, columns = self.shape[-2:]
        said: dict[str, list[int]] = {}
        for expert, arrays in enumerate(self.matrices):
            said.setdefault(self.codec.note((out, columns), arrays), []).append(expert)
        if len(said) == 1:
            return next(iter(said))
        return "; ".join(f"experts {', '.join(map(str, of))}: {note}" for note, of in said.items() if note)


def join(encodings: Sequence[Mapping[str, Array]]) -> Arrays:
    """The arrays of all matrices of a stack as they are stored."""
    joined: Arrays = {}
    for name in dict.fromkeys(name for arrays in encodings for name in arrays):
        each = {expert: arrays[name] for expert, arrays in enumerate(encodings) if name in arrays}
        if len(each) == len(encodings) and len({(array.dtype, *array.shape) for array in each.values()}) == 1:
            joined[name] = np.stack(list(each.values()))
        else:
            joined |= {named(name, expert): array for expert, array in each.items()}
    return joined


def split(arrays: Mapping[str, Array], matrices: int) -> list[Arrays]:
    """What `join` was given, of so many matrices."""
    parts: list[Arrays] = [{} for _ in range(matrices)]
    for name, array in arrays.items():
        of, expert = parsed(name)
        if expert is None:
            for number, part in enumerate(parts):
                part[name] = array[number]
        else:
            parts[expert][of] = array
    return parts
