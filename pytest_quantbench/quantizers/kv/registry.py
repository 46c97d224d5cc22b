"""How a method for the key-value cache is found by its name, and made with a recipe's parameters."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points
from operator import attrgetter
from typing import TYPE_CHECKING

from pytest_quantbench.errors import QuantbenchError, unknown

if TYPE_CHECKING:
    from pytest_quantbench.catalog.recipes import Part
    from pytest_quantbench.quantizers.kv.protocol import KVQuantizer

GROUP = "pytest_quantbench.kv_quantizers"


def names() -> list[str]:
    """Every registered method's name, sorted. Imports none of them."""
    return sorted({point.name for point in entry_points(group=GROUP)})


@cache
def get(name: str) -> type[KVQuantizer]:
    """The class of a method by registered name or `package.module:Class`. Raises UnknownNameError."""
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    if name not in points and ":" not in name:
        raise unknown("KV-cache quantizer", name, list(points), "Or name your own as package.module:Class.")
    module, _, attribute = points.get(name, name).partition(":")
    found: type[KVQuantizer] = attrgetter(attribute)(importlib.import_module(module))
    return found


def make(part: Part) -> KVQuantizer:
    """The method of a recipe's part. Raises QuantbenchError for parameters that it does not have, or refuses."""
    try:
        return get(part.quantizer)(**part.parameters)
    except (TypeError, ValueError) as error:
        raise QuantbenchError(f"{part.quantizer} cannot be made with {dict(part.parameters)}: {error}.") from error
