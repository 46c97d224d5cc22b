"""How a method for the key-value cache is found by its name, and made with a recipe's parameters.

Methods are found through the entry-point group `pytest_quantbench.kv_quantizers`, or named `package.module:Class`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.family import Family, field_names

if TYPE_CHECKING:
    from pytest_quantbench.catalog.recipes import Part
    from pytest_quantbench.quantizers.kv.protocol import KVQuantizer

GROUP = "pytest_quantbench.kv_quantizers"
FAMILY = Family(
    group=GROUP, kind="KV-cache quantizer", required=("name", "version", "form"), page="docs/add-a-kv-quantizer.md"
)


def names() -> list[str]:
    """Every registered method's name, sorted. Imports none of them."""
    return FAMILY.names()


@cache
def get(name: str) -> type[KVQuantizer]:
    """The class of a method by registered name or `package.module:Class`.

    Raises UnknownNameError for a name nobody registered, QuantbenchError where it cannot be imported or is none.
    """
    return cast("type[KVQuantizer]", FAMILY.get(name))


def make(part: Part) -> KVQuantizer:
    """The method of a recipe's part. Raises QuantbenchError for parameters that it does not have, or refuses."""
    found = get(part.quantizer)
    if "bits" in part.parameters and "bits" not in field_names(found):
        raise QuantbenchError(
            f"{part.quantizer} does not have one width, so it cannot have {part.parameters['bits']} bits. "
            f"Choose kv-{part.quantizer}, which has its defaults."
        )
    return cast("KVQuantizer", FAMILY.make(part.quantizer, part.parameters, found))
