"""What a method made of one parameter: of a matrix (out, in), or of a stack of matrices (experts, out, in).

Every matrix of a stack is encoded by itself. Arrays that have one shape and one type for all of them are stored as one
array, experts first, which is the form of MLX's own quantized experts; others, such as lists whose length depends on
the weights, are stored for each expert under its number, as in `super_places[3]`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import mlx.core as mx

from pytest_quantbench.engines.parameters import named, parsed
from pytest_quantbench.quantizers import Annotated, InputRule, MlxStored, Quantizer, QuantizesInputs

Arrays = dict[str, mx.array]
Rules: TypeAlias = InputRule | tuple[InputRule, ...]  # of a matrix, or of every matrix of a stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The arrays of a parameter of this shape, and the method that can read them."""

    codec: Quantizer
    arrays: Arrays
    shape: tuple[int, ...]

    @property
    def matrices(self) -> list[Arrays]:
        """The arrays of each matrix."""
        return split(self.arrays, self.shape[0]) if len(self.shape) == 3 else [self.arrays]

    def dense(self) -> mx.array:
        """The decoded parameter."""
        if len(self.shape) == 2 or self.codec.name == "identity":
            return self.codec.decode(self.arrays)
        return mx.stack([self.codec.decode(arrays) for arrays in self.matrices])

    def inputs(self) -> Rules | None:
        """What is done to the inputs of the layer; None: nothing."""
        if not isinstance(self.codec, QuantizesInputs):
            return None
        rules = tuple(self.codec.inputs(arrays) for arrays in self.matrices)
        return rules if len(self.shape) == 3 else rules[0]

    def mlx_parameters(self) -> dict[str, int | str] | None:
        """The entry in the `quantization` part of an MLX config.json; None where MLX cannot read the arrays."""
        if not isinstance(self.codec, MlxStored):
            return None
        first, *others = [self.codec.mlx_parameters(arrays) for arrays in self.matrices]
        return first if all(each == first for each in others) else None

    def note(self) -> str:
        """Where the method had to differ from its parameters; empty if nowhere."""
        if not isinstance(self.codec, Annotated):
            return ""
        out, columns = self.shape[-2:]
        said: dict[str, list[int]] = {}
        for expert, arrays in enumerate(self.matrices):
            said.setdefault(self.codec.note((out, columns), arrays), []).append(expert)
        if len(said) == 1:
            return next(iter(said))
        return "; ".join(f"experts {', '.join(map(str, of))}: {note}" for note, of in said.items() if note)


def join(encodings: Sequence[Mapping[str, mx.array]]) -> Arrays:
    """The arrays of all matrices of a stack as they are stored."""
    joined: Arrays = {}
    for name in dict.fromkeys(name for arrays in encodings for name in arrays):
        each = {expert: arrays[name] for expert, arrays in enumerate(encodings) if name in arrays}
        if len(each) == len(encodings) and len({(array.dtype, *array.shape) for array in each.values()}) == 1:
            joined[name] = mx.stack(list(each.values()))
        else:
            joined |= {named(name, expert): array for expert, array in each.items()}
    return joined


def split(arrays: Mapping[str, mx.array], matrices: int) -> list[Arrays]:
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
