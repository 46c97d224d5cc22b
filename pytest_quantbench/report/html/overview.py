"""What stands around the table of cells: where the time went and what it cost, machines, protocols.

Seconds and prices are summed as the records have them: a time that was not recorded is missing, not nought.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.record import fronts
from pytest_quantbench.record.publication_schema import Accelerator
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.answers import answer
from pytest_quantbench.report.charts import Charted
from pytest_quantbench.report.figures import size_of
from pytest_quantbench.report.tables import MISSING, calibration

STAGES: Mapping[str, Callable[[Record], float | None]] = {
    "compressing": lambda record: record.compression.time_sec if record.compression else None,
    "T1 throughput": lambda record: record.throughput.time_sec if record.throughput else None,
    "T2 perplexity": lambda record: record.perplexity.time_sec if record.perplexity else None,
    "T3 accuracy": lambda record: record.accuracy.time_sec if record.accuracy else None,
}
MINUTE, HOUR = 60, 3600
MOST_MODELS = 12  # whose smallest cell is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """One line of the table: of a model, or of all; times by stage, their sum, and what that costs."""

    name: str
    stages: Sequence[str]
    total: str
    cost: str


def spent(records: Sequence[Record]) -> list[Spent]:
    """Where the time went: a line for each model, the last for all; nothing where no time was recorded."""
    if not any(stage(record) for record in records for stage in STAGES.values()):
        return []
    by_model: dict[str, list[Record]] = {}
    for record in records:
        by_model.setdefault(record.model_id, []).append(record)
    lines = [_spent(model, found) for model, found in by_model.items()]
    return [*lines, _spent("all", records)] if len(lines) > 1 else lines


def _spent(name: str, records: Sequence[Record]) -> Spent:
    times = [_sum(stage(record) for record in records) for stage in STAGES.values()]
    priced = [(record, _sum(stage(record) for stage in STAGES.values())) for record in records]
    costs: dict[str, float] = {}
    for record, seconds in priced:
        if record.cost is not None and seconds is not None:
            paid = seconds / HOUR * record.cost.price_per_hour
            costs[record.cost.currency] = costs.get(record.cost.currency, 0.0) + paid
    return Spent(
        name=name,
        stages=[duration(each) for each in times],
        total=duration(_sum(times)),
        cost=", ".join(f"{amount:,.2f} {currency}" for currency, amount in costs.items()) or MISSING,
    )


def _sum(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def duration(seconds: float | None) -> str:
    """`4.7 s`, `6 min 52 s`, `3 h 05 min`."""
    if seconds is None:
        return MISSING
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    return f"{whole // HOUR:,} h {whole % HOUR // MINUTE:02d} min"


def price(records: Sequence[Record]) -> str:
    """At what price the costs are, in a sentence; why there are none where no price was given."""
    prices = dict.fromkeys(f"{r.cost.price_per_hour:g} {r.cost.currency} per hour" for r in records if r.cost)
    if not prices:
        return "No price was given, so there is no cost here; the times are those that a price would be multiplied by."
    return f"At {' and '.join(prices)} of this machine, for the seconds that the records tell."


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A machine that records were made on, what it has, and on how many cells."""

    machine: Machine
    accelerators: Sequence[Accelerator]
    cells: int

    @property
    def versions(self) -> str:
        """Of the libraries, in a line."""
        return ", ".join(f"{name} {version}" for name, version in self.machine.versions.items())


def places(records: Sequence[Record]) -> list[Place]:
    """Every machine that is in the records, with its versions: two sets of versions are two of them."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.machine is not None:
            found.setdefault(repr(record.machine), []).append(record)
    return [
        Place(
            machine=each[0].machine,
            accelerators=list({repr(r.accelerator): r.accelerator for r in each if r.accelerator}.values()),
            cells=len(each),
        )
        for each in found.values()
        if each[0].machine is not None
    ]


def protocols(records: Sequence[Record]) -> list[str]:
    """How texts were read, which questions were asked, how the runs were made; seeds."""
    texts = {f"T2 on {r.perplexity.corpus}: {r.perplexity.protocol}" for r in records if r.perplexity}
    tasks = {f"T3 {n}: {t.questions:,} questions" for r in records if r.accuracy for n, t in r.accuracy.tasks.items()}
    runs = {
        f"T1: {part.total_runs} runs, activations {part.activations}, "
        + ("interleaved with the reference's" if part.interleaved else "after the reference's")
        for part in (record.throughput for record in records if record.recipe != "bf16")
        if part is not None
    }
    seeds = f"Seeds: {', '.join(sorted({str(record.seed) for record in records}))}"
    return [*sorted(texts), *sorted(tasks), *sorted(runs), *_calibrations(records), seeds]


def _calibrations(records: Sequence[Record]) -> list[str]:
    """On which texts recipes were calibrated, with the recipes."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        if told := calibration(record):
            found.setdefault(told, {})[record.recipe] = None
    return [f"Calibrated on {told}: {', '.join(recipes)}" for told, recipes in found.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Smallest:
    """The smallest cell of a model that may ship; `standing`: on the front of size and perplexity, in words."""

    model: str
    recipe: str
    name: str
    size: str
    standing: str


def smallest(cells: Sequence[Charted]) -> list[Smallest]:
    """A line for each of the first models of which a cell may ship."""
    by_model: dict[str, list[Charted]] = {}
    for cell in cells:
        by_model.setdefault(cell.record.model_id, []).append(cell)
    found = []
    for own in list(by_model.values())[:MOST_MODELS]:
        sized = [(cell.record.compression.compressed_gb, cell.record) for cell in own if cell.record.compression]
        ships = [each for each in sized if (said := answer(each[1])) is not None and said.word == "may ship"]
        if ships:
            gigabytes, record = min(ships, key=lambda each: each[0])
            found.append(_smallest(record, gigabytes, own))
    return found


def _smallest(record: Record, gigabytes: float, own: Sequence[Charted]) -> Smallest:
    placed = {each.record.recipe: each for each in fronts.front([(cell.record, cell.arrays) for cell in own])}
    mine = placed.get(record.recipe)
    standing = MISSING if mine is None else f"{mine.word}{mine.by and f', by {mine.by}'}"
    return Smallest(
        model=record.model_id,
        recipe=record.recipe,
        name=record.cell,
        size=size_of(gigabytes),
        standing=standing,
    )
