"""`quantbench plan`: what a selection will fetch, how much disk each plan takes, how much memory, how long it takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_quantbench import engines
from pytest_quantbench.catalog.disk_plans import DISK_PLANS, bf16_bytes
from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import LEVEL_NAMES, Recipe, recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.engines.machine import describe, memory_bytes
from pytest_quantbench.errors import DiskError
from pytest_quantbench.fetch.candidates import find
from pytest_quantbench.fetch.hub_api import hub_cache
from pytest_quantbench.plan.disk import Cells, compressed, held_bytes, need, shortage, to_fetch, weight_bytes
from pytest_quantbench.plan.duration import forecast, work
from pytest_quantbench.record import folder
from pytest_quantbench.record.schema import Record
from pytest_quantbench.storage.files import GB, free_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The cells that are selected, the checks that any of their tests makes (`t1`, …), and the session's options."""

    settings: Settings
    cells: Sequence[tuple[Model, Recipe]]
    checks: frozenset[str]
    option_prefix: str = "--"  # what its options begin with where it is selected


def outlook(selection: Selection) -> Iterator[str]:
    """The lines that `quantbench plan` prints."""
    cells = selection.cells
    models = {model.name: model for model, _ in cells}
    compared = {(model.name, each.id): (model, each) for model, r in cells for each in (recipe("bf16"), r)}
    levels = [level for level in LEVEL_NAMES if any(chosen.level == level for _, chosen in cells)]
    yield f"selection: {len(cells)} cells, {len(models)} models at {', '.join(levels)}"
    missing = to_fetch(cells)
    sizes = [f"{name} {bf16_bytes(model) / GB:.1f} GB" for name, model in missing.items()]
    yield f"to fetch: {', '.join(sizes) or 'nothing'}"
    yield from _candidates(selection)
    yield from _disk(selection)
    yield f"memory: {_memory(selection, list(compared.values()))}"
    planned = work(list(compared.values()), selection.checks)
    machine = describe(engines.get(selection.settings.engine, selection.settings.activations))
    yield f"engine: {machine.runs_on}"
    yield f"time: {forecast(planned, _records(selection), machine).line()}"


def _candidates(selection: Selection) -> Iterator[str]:
    """Where the files of each are, and how much they take: they were fetched when the selection was made."""
    offline = selection.settings.offline
    for candidate in dict.fromkeys(chosen.candidate for _, chosen in selection.cells):
        if candidate is not None:
            size, place = held_bytes(candidate, offline), find(candidate.source, offline)
            yield f"candidate {candidate.name}: {size / GB:.2f} GB at {place}"


def _disk(selection: Selection) -> Iterator[str]:
    cache = selection.settings.cache
    yield f"disk: {free_bytes(cache) / GB:.1f} GB free at {cache}, {free_bytes(hub_cache()) / GB:.1f} at {hub_cache()}"
    yield "  plan  cells   at most      kept  fits  what it does"
    fitting, have = [], compressed(cache)
    for plan in DISK_PLANS.values():
        needed = need(selection.cells, plan, have)
        fits = shortage(needed, cache) is None
        fitting += [plan.name] if fits else []
        taken = sum(plan.takes(chosen) for _, chosen in selection.cells)
        sizes = f"{taken:5}  {needed.both / GB:5.1f} GB  {needed.left / GB:5.1f} GB"
        yield f"  {plan.name:4}  {sizes}  {'yes' if fits else 'no':4}  {plan.meaning}"
    way_out = f"fits: {selection.option_prefix}disk-plan {' or '.join(fitting)}"
    yield f"  {way_out if fitting else 'no plan fits: choose fewer models with -k'}"


def _memory(selection: Selection, compared: Cells) -> str:
    states = f"{selection.settings.memory_bytes / GB:g} GB ({selection.option_prefix}memory)"
    walk = f"T2, T3 and compression: one decoder layer and up to {states}"
    if "t1" not in selection.checks:
        return walk
    offline = selection.settings.offline
    whole = [(weight_bytes(model, chosen, offline), f"{model.name}-{chosen.id}") for model, chosen in compared]
    size, name = max(whole, default=(0.0, "nothing"))
    return f"T1 loads whole models: {size / GB:.1f} GB for {name}, of {memory_bytes() / GB:.1f} GB here; {walk}"


def _records(selection: Selection) -> Sequence[Record]:
    try:
        return folder.read_all(selection.settings.results)
    except DiskError:
        return []
