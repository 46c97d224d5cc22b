"""What the comparing tables show of a record: a figure and its change from BF16, for each of the four criteria."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.markdown import figures
from pytest_quantbench.report.tables import MISSING, Shown, significant

NO_RATIO = "no ratio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two cells of a level: the figure, and the change from BF16. `reference` is what BF16 had on the same samples."""

    value: str
    change: str
    reference: str = ""
    items: int | None = None


NOTHING = Pair(value=MISSING, change=MISSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One table. `keys` are a model's rows by what they are of (its tasks); `change` heads the second columns."""

    title: str
    units: str
    change: str
    metric: str
    pair: Callable[[Record, str], Pair]
    reference: Callable[[Record, str], str]
    keys: Callable[[Record], Sequence[str]] = lambda record: ("",)
    of: str = ""  # the title of a column for the keys


def _size(record: Record, of: str) -> Pair:
    part = record.compression
    if part is None:
        return NOTHING
    change = figures.marked(record, f"{100 * (1 - part.ratio):.1f}", "size_reduction_percent")
    return Pair(value=significant(part.compressed_gb), change=change)


def _original_size(record: Record, of: str) -> str:
    return MISSING if record.compression is None else significant(record.compression.original_gb)


def _speed(record: Record, of: str) -> Pair:
    look = figures.speed_look(record)
    if look is None or record.throughput is None:
        return NOTHING
    ratio = NO_RATIO if record.throughput.ratio_suppressed else figures.ranged(look.interval, 2)
    return Pair(value=f"{look.value:.1f}", change=figures.marked(record, ratio, "throughput_ratio"), items=look.items)


def _reference_speed(record: Record, of: str) -> str:
    return figures.of_part("throughput", lambda part: f"{part.mean_tps:.1f}")(record)


def _perplexity(record: Record, of: str) -> Pair:
    look = figures.perplexity_look(record)
    if look is None or record.perplexity is None:
        return NOTHING
    change = figures.perplexity_change(look.interval) + look.note
    change = figures.marked(record, change, "perplexity_delta", record.perplexity.corpus)
    return _paired(figures.perplexity, look, change)


def _reference_perplexity(record: Record, of: str) -> str:
    return figures.of_part("perplexity", lambda part: figures.perplexity(part.ppl))(record)


def _accuracy(record: Record, of: str) -> Pair:
    look = figures.accuracy_look(record, of)
    if look is None:
        return NOTHING
    change = figures.marked(record, figures.ranged(look.interval, 1) + look.note, "accuracy_drop_points", of)
    return _paired(figures.percent, look, change)


def _reference_accuracy(record: Record, of: str) -> str:
    look = figures.accuracy_look(record, of)
    return MISSING if look is None else figures.percent(look.value)


def _paired(shown: Callable[[float | None], str], look: Shown, change: str) -> Pair:
    return Pair(value=shown(look.value), change=change, reference=shown(look.reference), items=look.items)


def _tasks(record: Record) -> Sequence[str]:
    return tuple(record.accuracy.tasks) if record.accuracy else ()


COMPARISONS = (
    Comparison(
        title="Size",
        units="GB (10⁹ bytes) as stored; ↓%: how much smaller than BF16, in percent.",
        change="↓%",
        metric="size_reduction_percent",
        pair=_size,
        reference=_original_size,
    ),
    Comparison(
        title="Throughput",
        units="Output tokens per second at batch 1, the mean of all runs; ×: times as fast as BF16.",
        change="×",
        metric="throughput_ratio",
        pair=_speed,
        reference=_reference_speed,
    ),
    Comparison(
        title="Perplexity",
        units="Lower is better; Δ: how much higher than BF16 on the same tokens.",
        change=" Δ",
        metric="perplexity_delta",
        pair=_perplexity,
        reference=_reference_perplexity,
    ),
    Comparison(
        title="Accuracy",
        units="Percent of the questions; ↓: how many percentage points below BF16 on the same questions.",
        change="↓",
        metric="accuracy_drop_points",
        pair=_accuracy,
        reference=_reference_accuracy,
        keys=_tasks,
        of="Task",
    ),
)
