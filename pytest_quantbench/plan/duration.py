"""How long a session will take, roughly, and where its time went.

A forecast goes by what earlier sessions took on such a machine, scaled by the models' size.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from pytest_quantbench import measures
from pytest_quantbench.catalog.disk_plans import bf16_bytes
from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.progress import duration
from pytest_quantbench.record.schema import Record
from pytest_quantbench.storage.files import GB

LEAST_SECONDS = 10.0  # of shorter sessions nobody asks
CELLS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One part of a cell's session: `compression`, `t1`, `t2` or `t3`."""

    model: Model
    recipe: Recipe
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Seconds in all, and how many pieces of work they are known for: by a record of the very cell, by other models'
    records, or not at all, in which case their time is not in `seconds`.
    """

    seconds: float
    own: int
    scaled: int
    unknown: int

    def line(self) -> str:
        """As a sentence."""
        if not self.own + self.scaled:
            return "unknown: there are no records of such a machine to go by"
        pieces = f"{self.own} pieces of work by records of the same cell, {self.scaled} scaled from others by size"
        rest = f"; {self.unknown} more are not in it, nothing like them was measured" if self.unknown else ""
        return f"about {duration(self.seconds)} if nothing is reused ({pieces}{rest})"


def work(cells: Sequence[tuple[Model, Recipe]], checks: Collection[str]) -> list[Work]:
    """What a session over these cells does, as far as it takes time."""
    found, timed = [], sorted(_parts().keys() & checks)
    for model, recipe in cells:
        compressed = [] if recipe.of_weights.is_identity or recipe.candidate else ["compression"]
        own = [part for part in timed if part != "t1" or recipe.cache is None]
        found += [Work(model=model, recipe=recipe, part=part) for part in [*compressed, *own]]
    return found


def forecast(planned: Sequence[Work], records: Sequence[Record], machine: Machine) -> Forecast:
    """The time that work takes, by records of machines like this one. Other token and question counts than those of
    the records are not allowed for.
    """
    alike = [record for record in records if record.machine and _like(record.machine) == _like(machine)]
    seconds, own, scaled = 0.0, 0, 0
    for piece in planned:
        same = [record for record in alike if record.recipe == piece.recipe.id]
        mine = [found for each in same if each.model_id == piece.model.name and (found := _spent(each, piece.part))]
        if mine:
            own, seconds = own + 1, seconds + mine[0]
        elif rates := _rates(same, piece.part) or _rates(alike, piece.part):
            scaled, seconds = scaled + 1, seconds + median(rates) * bf16_bytes(piece.model) / GB
    return Forecast(seconds=seconds, own=own, scaled=scaled, unknown=len(planned) - own - scaled)


def _spent(record: Record, part: str) -> float | None:
    """Seconds that a part took; None where it was not measured, does not say so (a candidate's own runtime does not),
    or is of a measure that no record has a part of.
    """
    seconds: float | None = getattr(getattr(record, _parts()[part], None), "time_sec", None)
    return seconds


def _parts() -> dict[str, str]:
    """By the name of a piece of work: the part of a record that says how long it took."""
    timed = {measure.label.lower(): measure.name for measure in measures.every() if measure.needs != "artifact"}
    return {"compression": "compression", **timed}


def _rates(records: Sequence[Record], part: str) -> list[float]:
    """Seconds per GB of BF16 weights."""
    spent = [(_spent(record, part), record.compression) for record in records]
    return [seconds / size.original_gb for seconds, size in spent if seconds and size is not None]


def _like(machine: Machine) -> Machine:
    """What makes machines alike in speed: not their libraries."""
    return replace(machine, versions={}, os="")


def where_it_went(spent: Mapping[tuple[str, str], float], session_seconds: float, processes: int = 1) -> list[str]:
    """Lines on the seconds by stage and cell, as they were counted, of a session that took so long; those of several
    `processes` at a time add up to more than that. Nothing of a short session.
    """
    if session_seconds < LEAST_SECONDS:
        return []
    stages, cells = _sums(spent, 0), _sums(spent, 1)
    named = ", ".join(f"{name} {duration(seconds)}" for name, seconds in stages.items() if seconds >= 0.5)
    beside = f", counted over {processes} processes" if processes > 1 else ""
    lines = [f"time: {duration(session_seconds)} in all{beside}, of which {named}"] if named else []
    most = [f"{cell} {duration(seconds)}" for cell, seconds in cells.items() if cell and seconds >= 0.5][:CELLS_SHOWN]
    return [*lines, f"most of it for: {', '.join(most)}"] if lines and most else lines


def _sums(spent: Mapping[tuple[str, str], float], place: int) -> dict[str, float]:
    """Seconds by the stage (0) or the cell (1), the most first."""
    found: dict[str, float] = defaultdict(float)
    for key, seconds in spent.items():
        found[key[place]] += seconds
    return dict(sorted(found.items(), key=lambda each: -each[1]))
