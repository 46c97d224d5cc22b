"""What a session will put on the disk, event by event, known before it starts. Reads sizes, fetches nothing."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import msgspec

from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.disk_plans import DISK_PLANS, DiskPlan, bf16_bytes, in_order
from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.checkpoints.formats import open_candidate
from pytest_quantbench.errors import DiskError
from pytest_quantbench.fetch.candidates import find
from pytest_quantbench.fetch.download import is_here
from pytest_quantbench.fetch.hub_api import check_access, hub_cache
from pytest_quantbench.storage.cache import ARTIFACTS, MANIFEST_FILE
from pytest_quantbench.storage.files import GB, free_bytes

Cells = Sequence[tuple[Model, Recipe]]
SCALE_BITS = 0.5  # what scales and the like add to a width: 32 bits for every group of 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What one step of a session adds to the disks, in bytes: to the Hub's cache, to ours. Negative: it frees them."""

    what: str
    hub: float = 0.0
    cache: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The most bytes that a session has added to the disks at one time, and what it leaves there."""

    hub: float
    cache: float
    both: float
    left: float


def obtainable(cells: Cells, offline: bool) -> Cells:
    """The cells whose models are here or may be fetched: the others will fail, and need no disk."""
    return [(model, recipe) for model, recipe in cells if not offline or is_here(model)]


@dataclass(frozen=True, slots=True)
class _Told:
    """What a manifest says of where it came from; it is not checked here, for that takes reading the whole model."""

    source: str
    recipe: str


def compressed(cache: Path) -> set[tuple[str, str]]:
    """The compressed models that the cache holds: where the model lies, and the recipe."""
    found = set()
    for artifact in ARTIFACTS.all_in(cache):
        with suppress(OSError, msgspec.MsgspecError):  # it counts as not there
            told = msgspec.json.decode((artifact / MANIFEST_FILE).read_bytes(), type=_Told)
            found.add((_place(told.source), told.recipe))
    return found


def _place(directory: str) -> str:
    """A directory, or of a snapshot in the Hub's cache the model's folder: another commit has the same size."""
    return next((part for part in Path(directory).parts if part.startswith("models--")), directory)


def events(cells: Cells, plan: DiskPlan, have: Collection[tuple[str, str]] = ()) -> Iterator[Event]:
    """A session over these cells, step by step, where the cache has these compressed models."""
    models = list({model.name: model for model, _ in cells}.values())
    for model in in_order(models, plan):
        fetched = 0.0 if is_here(model) else bf16_bytes(model)
        if fetched:
            yield Event(what=f"fetch {model.name}", hub=fetched)
        place = model.source if model.local else f"models--{model.source.replace('/', '--')}"
        own = {recipe.of_weights.id: recipe.of_weights for other, recipe in cells if other.name == model.name}
        for recipe in (each for name, each in own.items() if (place, name) not in have):
            if plan.writes(recipe):
                size = bf16_bytes(model) * (recipe.bits + SCALE_BITS) / 16
                yield Event(what=f"compress {model.name} to {recipe.id}", cache=size)
        if fetched and not plan.keeps_bf16:
            yield Event(what=f"delete BF16 of {model.name}", hub=-fetched)


def held_bytes(candidate: Candidate, offline: bool) -> int:
    """What a candidate's files take. Raises what finding and opening them raises."""
    return sum(file.stat().st_size for file in open_candidate(find(candidate.source, offline)).files)


def weight_bytes(model: Model, recipe: Recipe, offline: bool) -> float:
    """What a cell's weights take: a candidate's files as they are, else by the width."""
    if recipe.candidate is not None:
        return held_bytes(recipe.candidate, offline)
    return bf16_bytes(model) * min(16, recipe.bits + SCALE_BITS) / 16


def need(cells: Cells, plan: DiskPlan, have: Collection[tuple[str, str]] = ()) -> Need:
    """What these cells take under a plan, besides the compressed models that are there."""
    steps = list(events(cells, plan, have))
    hub = list(accumulate((step.hub for step in steps), initial=0.0))
    cache = list(accumulate((step.cache for step in steps), initial=0.0))
    both = [first + second for first, second in zip(hub, cache, strict=True)]
    return Need(hub=max(hub), cache=max(cache), both=max(both), left=both[-1])


def to_fetch(cells: Cells) -> dict[str, Model]:
    """The models that are not here, by name."""
    return {model.name: model for model, _ in cells if not is_here(model)}


def describe(cells: Cells, plan: DiskPlan, cache: Path) -> list[str]:
    """The header's lines: what is fetched, how much disk that takes at most, how much there is."""
    missing, needed = to_fetch(cells), need(cells, plan, compressed(cache))
    models = {model.name for model, _ in cells}
    fetched = ", ".join(f"{name} {bf16_bytes(model) / GB:.1f} GB" for name, model in missing.items()) or "nothing"
    unknown = [name for name, model in missing.items() if not bf16_bytes(model)]
    sizes = f" (size of {', '.join(unknown)} unknown)" if unknown else ""
    return [
        f"quantbench: {_count(len(cells), 'cell')} of {_count(len(models), 'model')}; to fetch: {fetched}{sizes}",
        f"quantbench: disk plan {plan.name} ({plan.meaning}): {needed.both / GB:.2f} GB at most, "
        f"{needed.left / GB:.2f} GB kept; {free_bytes(cache) / GB:.1f} GB free at {cache}",
    ]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def check_session(cells: Cells, plan: DiskPlan, offline: bool, cache: Path) -> None:
    """Raise DiskError or ModelError for what would stop the session later: too little disk, models it may not have."""
    found = obtainable(cells, offline)
    check_disk(found, plan, cache)
    if not offline:
        models = {model.source: model for model, _ in found}
        check_access([source for source, model in models.items() if not is_here(model)])


def check_disk(cells: Cells, plan: DiskPlan, cache: Path) -> None:
    """Raise DiskError with the numbers, and the plans that would do, if the disks cannot hold the session."""
    have = compressed(cache)
    if (lacking := shortage(need(cells, plan, have), cache)) is None:
        return
    whole = [each for each in DISK_PLANS.values() if all(each.takes(recipe) for _, recipe in cells)]
    others = [other.name for other in whole if shortage(need(cells, other, have), cache) is None]
    way_out = f"Say --disk-plan {' or '.join(others)}" if others else "Choose fewer models with -k"
    raise DiskError(
        f"Disk plan {plan.name} {lacking}. {way_out}, or set QUANTBENCH_CACHE or HF_HOME to a "
        f"larger disk; `quantbench plan` shows more."
    )


def shortage(needed: Need, cache: Path) -> str | None:
    """Which disk cannot hold what is needed, in words; None: they can."""
    folders = [(hub_cache(), needed.hub), (cache, needed.cache)]
    if _device(cache) == _device(hub_cache()):
        folders = [(cache, needed.both)]
    for folder, size in folders:
        if size > (free := free_bytes(folder)):
            return f"needs {size / GB:.1f} GB at {folder} and {free / GB:.1f} GB are free"
    return None


def _device(directory: Path) -> int:
    """Which disk a directory is on, or will be."""
    return os.stat(next(path for path in (directory, *directory.parents) if path.exists())).st_dev
