"""Which recipes a session ranges over: those that are named, else the levels' own; and what `-m` may say of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import CACHE_LEVEL, CACHES, LEVEL_NAMES, LEVELS, USUAL_CACHES, Recipe
from pytest_quantbench.errors import QuantbenchError, unknown

if TYPE_CHECKING:
    from pytest_quantbench.plugin.candidates import Opened

CHECKS = ("t1", "t2", "t3", "depth", "retrieval", "runtime", "load", "sweep", "size", "weights", "selftest")  # markers


def by_name(names: Iterable[str]) -> dict[str, Recipe]:
    """Recipes by name. Raises QuantbenchError for one that does not exist or cannot be made."""
    return {name: quantizers.recipe_of(name) for name in names}


def usual(config: pytest.Config) -> list[str]:
    """The recipes of a session that names none: the levels' own, and where `-m` has that level, the usual ones of the
    cache.
    """
    return [*LEVELS, *(USUAL_CACHES if CACHE_LEVEL in marker_words(config) else ())]


def refuse_caches_of_candidates(candidates: "Sequence[Opened]", recipes: Mapping[str, Recipe]) -> None:
    """Raise QuantbenchError where files of somebody else's would be run beside caches of ours: no recipe joins them."""
    for each in recipes.values():
        if candidates and each.cache is not None:
            raise QuantbenchError(
                f"--recipe {each.id}: a candidate is judged with its key-value cache in 16 bits. Judge caches in a "
                f"session without --candidate."
            )


def every() -> list[str]:
    """Those that a limit can be given for; recipes that join weights and a cache only where a session has them."""
    return [*(f"{level}-{method}" for level in LEVELS for method in quantizers.names()), *CACHES]


def marker_words(config: pytest.Config) -> set[str]:
    """The names in `-m`."""
    return set(re.findall(r"[A-Za-z_]\w*", config.getoption("markexpr") or ""))


def check_marker_expression(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Raise UsageError if `-m` names a marker neither registered nor in use: pytest would quietly select nothing."""
    registered = {line.partition(":")[0].partition("(")[0].strip() for line in config.getini("markers")}
    used = {mark.name for item in items for mark in item.iter_markers()}
    for word in sorted(marker_words(config) - registered - used - {"and", "or", "not", "True", "False"}):
        raise pytest.UsageError(str(unknown("marker", word, [*LEVEL_NAMES, *CHECKS])))
