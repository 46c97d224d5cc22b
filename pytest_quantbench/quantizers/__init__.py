"""The codec protocol and how a quantizer is found by name. One file per method; they never import each other.

A quantizer is a frozen dataclass whose fields are its parameters. It is found through the entry-point group
`pytest_quantbench.quantizers`, in which this package registers its own methods as a third party would, or named
`package.module:Class`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, cast, runtime_checkable

from pytest_quantbench.errors import QuantbenchError, unknown

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn
    import numpy as np
    from numpy.typing import NDArray

    from pytest_quantbench.catalog.recipes import Part, Recipe

    InputRule: TypeAlias = Callable[[mx.array], mx.array]
else:
    InputRule = Callable  # MLX is not imported for a name

GROUP = "pytest_quantbench.quantizers"
REQUIRED = ("name", "version", "calibration", "encode", "decode", "linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What the inputs x of one matrix (y = W x) looked like over the calibration tokens."""

    hessian: NDArray[np.float32]  # (in, in): mean of x xᵀ
    tokens: int
    sample: NDArray[np.float32]  # (up to 1,024 tokens, in): inputs drawn at random
    peaks: NDArray[np.float32]  # (up to 16 tokens, in): the inputs with the largest single value, largest first


class Quantizer(Protocol):
    """Encodes one weight matrix and decodes it again. `decode` defines what an encoding means."""

    name: ClassVar[str]
    version: ClassVar[int]  # raised when the encoding changes: artifacts are rebuilt
    calibration: ClassVar[Literal["none", "optional", "hessian"]]  # optional: better with statistics, fine without

    def encode(self, weight: mx.array, statistics: Statistics | None, seed: int) -> dict[str, mx.array]:
        """(out, in) float weight → named arrays, packed as they are stored. `statistics` is None without calibration.

        Raises QuantbenchError where statistics are needed and missing.

        Everything needed to decode is in the arrays or in the fields: bits per weight are counted from the arrays.
        """

    def decode(self, arrays: dict[str, mx.array]) -> mx.array:
        """Named arrays → the dense (out, in) weight. Deterministic."""

    def linear(self, arrays: dict[str, mx.array]) -> nn.Module | None:
        """A native fast layer that maps (…, in) to (…, out) without bias as `x @ decode(arrays).T` does, or None."""


@runtime_checkable
class MlxStored(Protocol):
    """A quantizer some of whose encodings are exactly what MLX itself stores."""

    def mlx_parameters(self, arrays: dict[str, mx.array]) -> dict[str, int | str] | None:
        """The entry of this matrix in the `quantization` part of an MLX config.json, or None."""


@runtime_checkable
class QuantizesInputs(Protocol):
    """A quantizer that also quantizes the inputs of its layer, in every measure."""

    def inputs(self, arrays: dict[str, mx.array]) -> InputRule:
        """What becomes of an input: (…, in) float → (…, in) float, values that the encoding can express."""


@runtime_checkable
class Annotated(Protocol):
    """A quantizer that can say where it had to differ from its parameters for one matrix."""

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, mx.array]) -> str:
        """What is done otherwise for an (out, in) matrix, such as a smaller group or padding; empty if nothing."""


def check_width(name: str, bits: int, width: int) -> None:
    """For methods of one width only. Raises QuantbenchError where `bits` is another."""
    if bits != width:
        raise QuantbenchError(f"{name} cannot have bits = {bits}: it is a method of {width} bits.")


def names() -> list[str]:
    """Every registered quantizer's name, sorted. Imports none of them."""
    return sorted({point.name for point in entry_points(group=GROUP)})


@cache
def get(name: str) -> type[Quantizer]:
    """The class of a quantizer by registered name or `package.module:Class`.

    Raises UnknownNameError for a name nobody registered, QuantbenchError where it cannot be imported or is none.
    """
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    if name not in points and ":" not in name:
        raise unknown("quantizer", name, list(points), "Or name your own as package.module:Class.")
    module, _, attribute = points.get(name, name).partition(":")
    if not (module and attribute) or module.startswith("."):
        raise QuantbenchError(f"The quantizer {name!r} is not named as package.module:Class.")
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
    except (ImportError, AttributeError, SyntaxError) as error:
        raise QuantbenchError(f"The quantizer {name!r} cannot be imported: {error}.") from error
    return _checked(name, found)


def _checked(name: str, found: object) -> type[Quantizer]:
    """The same, a class with the protocol's names. Raises QuantbenchError saying what it is instead."""
    if not isinstance(found, type):
        raise QuantbenchError(f"{name!r} is no quantizer: it is a {type(found).__name__}, not a class.")
    lacking = [each for each in REQUIRED if not hasattr(found, each)]
    if lacking or not dataclasses.is_dataclass(found):
        told = f"it lacks {', '.join(lacking)}" if lacking else "it is no dataclass"
        raise QuantbenchError(f"{name!r} is no quantizer: {told}. docs/add-a-quantizer.md shows what one has.")
    return cast("type[Quantizer]", found)


@cache
def field_names(quantizer: type[Quantizer]) -> tuple[str, ...]:
    """The names of a quantizer's parameters."""
    return tuple(field.name for field in dataclasses.fields(quantizer))  # type: ignore[arg-type]


def make(part: Part) -> Quantizer:
    """The quantizer of a recipe's part. The level's `bits` go to methods that have such a field.

    Raises QuantbenchError naming a parameter that the method does not have, or values that it refuses.
    """
    quantizer = get(part.quantizer)
    fields = field_names(quantizer)
    for parameter in part.parameters:
        if parameter not in fields and parameter != "bits":
            raise unknown(f"parameter of {part.quantizer}", parameter, fields)
    given = {name: value for name, value in part.parameters.items() if name in fields}
    try:
        return quantizer(**given)
    except (TypeError, ValueError) as error:
        shown = ", ".join(f"{name} = {value!r}" for name, value in given.items()) or "no parameters"
        raise QuantbenchError(f"{part.quantizer} cannot be made with {shown}: {error}.") from error


def check(recipe: Recipe) -> None:
    """Raise QuantbenchError for a recipe whose quantizers cannot be had, or cannot have its width.

    Imports them, unless they are the level's own, which need no check.
    """
    if recipe.method is None:
        return
    method, colon, _ = recipe.method.partition(":")
    if colon and method in names():
        fields = ", ".join(field_names(get(method)))
        raise QuantbenchError(
            f"The recipe {recipe.id!r} gives parameters, which recipes do not take; {method} has {fields}. Choose "
            f"{recipe.level}-{method}, which has its defaults, or name a quantizer of your own as package.module:Class."
        )
    for part in recipe.parts:
        make(part)
