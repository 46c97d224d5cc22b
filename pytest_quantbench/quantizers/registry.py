"""How a quantizer is found by its name, and made with a recipe's parameters.

Methods are found through the entry-point group `pytest_quantbench.quantizers`, in which this package registers its own
as a third party would, or named `package.module:Class`. None is imported before it is asked for.
"""

from __future__ import annotations

import dataclasses
import importlib
from functools import cache
from importlib.metadata import entry_points
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from pytest_quantbench.catalog.recipes import MIXES, Part, Recipe, recipe, unknown_recipe
from pytest_quantbench.errors import QuantbenchError, UnknownNameError, unknown

if TYPE_CHECKING:
    from pytest_quantbench.quantizers.protocol import Quantizer

GROUP = "pytest_quantbench.quantizers"
REQUIRED = ("name", "version", "calibration", "has_input_rule", "encode", "decode", "layer", "note")


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
    abstract: frozenset[str] = getattr(found, "__abstractmethods__", frozenset())
    lacking = [each for each in REQUIRED if not hasattr(found, each) or each in abstract]
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


def recipe_of(recipe_id: str) -> Recipe:
    """The recipe of this id, whose methods are registered, or a mix's, or can be imported.

    Raises UnknownNameError for a level or a method that does not exist, naming those that do; QuantbenchError for one
    that cannot be had, or cannot have the level's width.
    """
    known = (*names(), *MIXES)
    try:
        chosen = recipe(recipe_id)
    except UnknownNameError as error:
        raise unknown_recipe(recipe_id, known) from error
    method = chosen.of_weights.method
    if method is not None and ":" not in method and method not in known:
        raise unknown_recipe(recipe_id, known)
    check(chosen.of_weights)
    return chosen


def check(chosen: Recipe) -> None:
    """Raise QuantbenchError for a recipe whose quantizers cannot be had, or cannot have its width.

    Imports them, unless they are the level's own, which need no check.
    """
    if chosen.method is None:
        return
    method, colon, _ = chosen.method.partition(":")
    if colon and method in names():
        fields = ", ".join(field_names(get(method)))
        raise QuantbenchError(
            f"The recipe {chosen.id!r} gives parameters, which recipes do not take; {method} has {fields}. Choose "
            f"{chosen.level}-{method}, which has its defaults, or name a quantizer of your own as package.module:Class."
        )
    for part in chosen.parts:
        make(part)
