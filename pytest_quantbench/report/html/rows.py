"""A record → its row of the table of cells: figures as texts with intervals, keys to sort by, verdicts.

Computes nothing: every figure is in the record.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog.recipes import LEVELS, REFERENCE, recipe
from pytest_quantbench.errors import UnknownNameError
from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import outcome_of
from pytest_quantbench.record.suite import worst
from pytest_quantbench.report.answers import CellAnswer, answer
from pytest_quantbench.report.tables import MARKS, MISSING, Shown, decided
from pytest_quantbench.stats.estimates import Interval

REFERENCE_WORD = "reference"
LONGEST = 1e4  # of figures that are shown in full


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One cell of the table. `key` is what it is sorted by: a number where the column has numbers; None: missing."""

    text: str
    interval: str = ""  # beside it, smaller
    key: float | str | None = None
    outcome: Outcome | None = None  # of the criterion that judges it
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the table: its short name in the page's address, its title, and what it shows of a record."""

    name: str
    title: str
    unit: str
    figure: Callable[[Record], Figure]
    numbers: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell: what it is found by, the word that is said of it, its figures in the columns' order."""

    name: str
    model: str
    recipe: str
    level: str
    word: str
    outcome: str
    answer: CellAnswer | None
    figures: Sequence[Figure]


def rows(records: Sequence[Record]) -> list[Row]:
    """A row for each record, in their order."""
    return [_row(record) for record in records]


def _row(record: Record) -> Row:
    said = answer(record)
    word = REFERENCE_WORD if said is None else said.word
    return Row(
        name=record.cell,
        model=record.model_id,
        recipe=record.recipe,
        level=record.level,
        word=word,
        outcome=REFERENCE_WORD if said is None else outcome_of(record),
        answer=said,
        figures=[column.figure(record) for column in COLUMNS],
    )


def method(record: Record) -> str:
    """The quantizer of the decoder layers; of a candidate its format."""
    if record.candidate is not None:
        return record.candidate.format
    try:
        return recipe(record.recipe).inner.quantizer
    except UnknownNameError:  # of a level or a name that was there when the record was written
        return MISSING


def _text(value: str) -> Figure:
    return Figure(text=value, key=value.lower())


def _number(value: float | None, shown: str) -> Figure:
    """`shown`: a format, such as `.2f`."""
    return Figure(text=MISSING) if value is None else Figure(text=format(value, shown), key=value)


def _signed(value: float, shown: str) -> str:
    """With a minus sign as wide as the plus sign; what is too long for a column as a power of ten."""
    return format(value, shown if abs(value) < LONGEST else shown[0].strip(".") + ".2g").replace("-", "−")


def _judged(record: Record, metric: str, found: Interval | None, digits: int, sign: str = "") -> Figure:
    """A figure that a criterion judges: of the look that decided, as its interval is."""
    verdict = None if record.recipe == REFERENCE.id else worst(record, metric)
    look = decided(record, metric, Shown(value=None, reference=None, items=0, interval=found)).interval
    outcome = verdict.outcome if verdict else None
    mark = MARKS[outcome] if outcome else ""
    if look is None:
        return Figure(text=MISSING, outcome=outcome, mark=mark)
    text, low, high = (_signed(each, f"{sign}.{digits}f") for each in (look.estimate, look.low, look.high))
    return Figure(
        text=text,
        interval="" if look.low == look.high else f"[{low}, {high}]",
        key=look.estimate,
        outcome=outcome,
        mark=mark,
    )


def _size(record: Record) -> Figure:
    part = record.compression
    verdict = None if record.recipe == REFERENCE.id else worst(record, "size_reduction_percent")
    if part is None:
        return Figure(text=MISSING)
    outcome = verdict.outcome if verdict else None
    smaller = "" if record.recipe == REFERENCE.id else f"−{100 * (1 - part.ratio):.1f} %"
    mark = MARKS[outcome] if outcome else ""
    return Figure(
        text=f"{part.compressed_gb:.3g}", interval=smaller, key=part.compressed_gb, outcome=outcome, mark=mark
    )


def _speed(record: Record) -> Figure:
    return _judged(record, "throughput_ratio", record.throughput.ratio if record.throughput else None, 2)


def _rate(record: Record) -> Figure:
    return _number(record.throughput.mean_tps if record.throughput else None, ".1f")


def _perplexity(record: Record) -> Figure:
    return _judged(record, "perplexity_delta", record.perplexity.delta_interval if record.perplexity else None, 3, "+")


def _divergence(record: Record) -> Figure:
    part = record.perplexity and record.perplexity.divergence
    return _number(part.kl_nats if part else None, ".4f")


def _drop(record: Record) -> Figure:
    tasks = list(record.accuracy.tasks.values()) if record.accuracy else []
    return _judged(record, "accuracy_drop_points", tasks[0].drop_points if tasks else None, 1, "+")


def _worst_matrix(record: Record) -> Figure:
    part = record.weights
    if part is None or part.worst_snr_db is None:
        return Figure(text=MISSING)
    name = (part.worst_tensor or "").removeprefix("model.").removesuffix(".weight")
    return Figure(text=f"{part.worst_snr_db:.1f}", interval=name, key=part.worst_snr_db)


def _bits(record: Record) -> Figure:
    return _number(record.compression.bits_per_weight if record.compression else None, ".2f")


def _level(record: Record) -> Figure:
    """The recipe; sorted by its level, the widest first."""
    place = list(LEVELS).index(record.level) if record.level in LEVELS else len(LEVELS)
    return Figure(text=record.recipe, key=f"{place} {record.recipe}")


def _words(record: Record) -> Figure:
    said = answer(record)
    return _text(REFERENCE_WORD if said is None else said.word)


COLUMNS = (
    Column(name="model", title="Model", unit="", figure=lambda record: _text(record.model_id), numbers=False),
    Column(name="recipe", title="Recipe", unit="", figure=_level, numbers=False),
    Column(name="verdict", title="Verdict", unit="", figure=_words, numbers=False),
    Column(name="method", title="Method", unit="", figure=lambda record: _text(method(record)), numbers=False),
    Column(name="bits", title="Bits", unit="per weight", figure=_bits),
    Column(name="size", title="Size", unit="GB", figure=_size),
    Column(name="rate", title="Rate", unit="tokens/s", figure=_rate),
    Column(name="speed", title="Speed-up", unit="× BF16", figure=_speed),
    Column(name="perplexity", title="Δ Perplexity", unit="points", figure=_perplexity),
    Column(name="kl", title="KL", unit="nats", figure=_divergence),
    Column(name="drop", title="Accuracy drop", unit="points", figure=_drop),
    Column(name="snr", title="Worst matrix", unit="SNR, dB", figure=_worst_matrix),
)
