"""How a quantizer is found by its name, and made with a recipe's parameters.

Methods are found through the entry-point group `pytest_quantbench.quantizers`, or named `package.module:Class`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

from pytest_quantbench.catalog.recipes import CACHES, MIXES, Part, Recipe, recipe, unknown_recipe
from pytest_quantbench.errors import QuantbenchError, UnknownNameError
from pytest_quantbench.quantizers.family import Family, field_names
from pytest_quantbench.quantizers.kv import registry as kv_registry

if TYPE_CHECKING:
    from pytest_quantbench.quantizers.protocol import Quantizer

GROUP = "pytest_quantbench.quantizers"
REQUIRED = ("name", "version", "calibration", "has_input_rule", "encode", "decode", "layer", "note")
FAMILY = Family(group=GROUP, kind="quantizer", required=REQUIRED, page="docs/add-a-quantizer.md")


def names() -> list[str]:
    """Every registered quantizer's name, sorted. Imports none of them."""
    return FAMILY.names()


@cache
def get(name: str) -> type[Quantizer]:
    """The class of a quantizer by registered name or `package.module:Class`.

    Raises UnknownNameError for a name nobody registered, QuantbenchError where it cannot be imported or is none.
    """
    return cast("type[Quantizer]", FAMILY.get(name))


def make(part: Part) -> Quantizer:
    """The quantizer of a recipe's part. The level's `bits` go to methods that have such a field.

    Raises QuantbenchError naming a parameter that the method does not have, or values that it refuses.
    """
    found = get(part.quantizer)
    has_width = "bits" in field_names(found)
    given = {name: value for name, value in part.parameters.items() if name != "bits" or has_width}
    return cast("Quantizer", FAMILY.make(part.quantizer, given, found))


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
    if chosen.cache is not None and chosen.cache not in CACHES.values():
        kv_registry.make(chosen.cache)
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
