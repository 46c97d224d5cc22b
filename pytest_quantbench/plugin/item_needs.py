"""What a test item needs: read from its parameters and markers, with the standard library and pytest only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_quantbench.catalog.disk_plans import DiskPlan
    from pytest_quantbench.catalog.models import Model
    from pytest_quantbench.catalog.recipes import Kind, Recipe


# What items are marked with, and what stands behind each in `pytest --markers`.
MARKERS = {
    **{level: f"a cell at level {level}" for level in ("bf16", "int8", "int4", "int3", "int2")},
    "kv": "a model whose key-value cache is quantized; without --recipe the usual five",
    "t1": "throughput",
    "t2": "perplexity",
    "t3": "accuracy",
    "depth": "T2 by depth, of cells with a quantized key-value cache",
    "retrieval": "facts and chains of them in filler; of cells with a quantized cache, of others with -m retrieval",
    "runtime": "a candidate's files on the runtime that they are made for, such as llama.cpp",
    "load": "loading in fresh processes, cold and warm; runs with -m load only",
    "size": "bytes on disk",
    "weights": "decoded weights against the original ones",
    "sweep": "throughput in full, by batch, depth and length; runs with --sweep or -m sweep only",
    "selftest": "known damage has to fail; runs with -m selftest only",
    "quantbench(models=None, recipes=None)": "which models and recipes a test's `cell` runs over (default: all)",
}

# What recipes have to quantize for the tests of a marker to say something: weights, the key-value cache, or both.
OF_KINDS: Mapping[str, tuple[Kind, ...]] = {
    "size": ("weights", "both"),
    "weights": ("weights", "both"),
    "t1": ("weights",),
    "load": ("weights",),
    "sweep": ("weights",),
    "depth": ("cache", "both"),
}

ON_REQUEST = (
    "selftest",
    "load",
    "retrieval",
    "sweep",
)  # markers of items that run only where `-m` or an option asks


def parameters(item: pytest.Item) -> tuple[Model, Recipe] | None:
    """The model and the recipe of an item's cell; None for an item without a cell."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or "quantbench_subject" not in callspec.params:
        return None
    return callspec.params["quantbench_subject"], callspec.params["cell"]


def is_ours(item: pytest.Item) -> bool:
    """Whether an item uses any fixture of this plugin."""
    return "quantbench_run" in getattr(item, "fixturenames", ())


def spellings(name: str) -> set[str]:
    """A model's name as `-k` may have it: letters with their accents composed or not (macOS takes them apart), and `_`
    for what an expression cannot hold, such as blanks.
    """
    forms = {name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))}
    return forms | {re.sub(r"[^\w:+\-.\[\]\\/]", "_", form) for form in forms}


def needs_suite(item: pytest.Item) -> bool:
    """Whether an item judges all models of a level."""
    return "quantbench_records" in getattr(item, "fixturenames", ())


def needs_codec(item: pytest.Item) -> bool:
    """Whether an item looks at a quantizer by itself, not at a model."""
    return "quantbench_codec" in getattr(item, "fixturenames", ())


def is_wanted(
    item: pytest.Item, plan: DiskPlan, *, asked: Collection[str] = (), runtimes_for: Collection[str] = ()
) -> bool:
    """Whether a session runs an item: not a cell that its disk plan has no room for, nor a check that says nothing of
    what the cell quantizes; what is `ON_REQUEST` only if its marker is asked for; retrieval also where the key-value
    cache is quantized; on a runtime only the candidates that one is there for, whose names are given.
    """
    needed = parameters(item)
    if needed is None:
        return True
    if item.get_closest_marker("runtime") and needed[1].id not in runtimes_for:
        return False
    if any(needed[1].kind not in kinds for mark, kinds in OF_KINDS.items() if item.get_closest_marker(mark)):
        return False
    own = {name for name in ON_REQUEST if item.get_closest_marker(name)}
    own -= {"retrieval"} if needed[1].cache is not None else set()
    return plan.takes(needed[1]) and own <= {*asked}


def cells_of(items: Sequence[pytest.Item]) -> list[tuple[Model, Recipe]]:
    """The different cells that these items need."""
    found = [needed for needed in map(parameters, items) if needed is not None]
    return list({(model.name, recipe.id): (model, recipe) for model, recipe in found}.values())


def expected(items: Sequence[pytest.Item]) -> dict[str, list[tuple[Recipe, str]]]:
    """By model: the recipes, each with the name of a measure along a walk that an item is marked with (`t2`, …), or
    that what it is marked with stands beside.
    """
    from pytest_quantbench import measures

    every = list(measures.every())
    walked = {measure.label.lower(): measure.name for measure in every if measure.needs == "walk"}
    walked |= {measure.label.lower(): measure.beside for measure in every if measure.needs == "file"}
    found: dict[str, list[tuple[Recipe, str]]] = {}
    for item in items:
        needed = parameters(item)
        for mark in item.iter_markers() if needed is not None else ():
            if needed is not None and mark.name in walked:
                found.setdefault(needed[0].name, []).append((needed[1], walked[mark.name]))
    return found
