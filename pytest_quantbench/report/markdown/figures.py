"""Figures of a record as narrow text: with their intervals, which a line may not break inside of. Computes nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.tables import MISSING, Shown, decided, mark
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.percentiles import Percentile

UNTOLD = "…"
TIED = "\u00a0"  # a space at which no line breaks: a wide table wraps between a figure and its interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a model's table: its label with the unit, and the cell of a record."""

    label: str
    figure: Callable[[Record], str]


def ranged(found: Interval | Percentile | None, digits: int, sign: str = "", factor: float = 1.0) -> str:
    """`0.31 [0.12, 0.50]`, in a unit that is `factor` times smaller; the missing sign without one, and nothing behind
    an exact figure. An end that samples do not tell is `…`.
    """
    if found is None:
        return MISSING
    estimate = f"{factor * found.estimate:{sign}z,.{digits}f}"
    if found.low == found.high == found.estimate:
        return estimate
    low, high = (UNTOLD if end is None else f"{factor * end:{sign}z,.{digits}f}" for end in (found.low, found.high))
    return f"{estimate} [{low},{TIED}{high}]"


def perplexity_change(found: Interval | None) -> str:
    """With fewer digits where it is large, as after collapse."""
    if found is None:
        return MISSING
    largest = max(abs(found.estimate), abs(found.low), abs(found.high))
    return ranged(found, 3 if largest < 10 else 2 if largest < 100 else 0, "+")


def of_part(part: str, shown: Callable[[Any], str | None]) -> Callable[[Record], str]:
    """A figure of one part of a record; the missing sign where the part or the figure is null."""

    def figure(record: Record) -> str:
        found = getattr(record, part)
        return (MISSING if found is None else shown(found)) or MISSING

    return figure


def row(label: str, part: str, shown: Callable[..., str | None]) -> Row:
    """A row of what `shown` says of one part of a record."""
    return Row(label=label, figure=of_part(part, shown))


def marked(record: Record, told: str, metric: str, of: str | None = None) -> str:
    """With the sign of the worst verdict; a figure that is missing has none."""
    sign = mark(record, metric, of)
    return f"{told}{TIED}{sign}" if sign and told != MISSING else told


def perplexity_look(record: Record) -> Shown | None:
    """The judged perplexity, that of BF16 on the same tokens, and their difference."""
    part = record.perplexity
    if part is None:
        return None
    plain = Shown(value=part.ppl, reference=part.bf16_ppl, items=part.tokens, interval=part.delta_interval)
    return decided(record, "perplexity_delta", plain, part.corpus)


def accuracy_look(record: Record, task: str) -> Shown | None:
    """The accuracy on a task, that of BF16 on the same questions, and the drop in points."""
    part = record.accuracy.tasks.get(task) if record.accuracy else None
    if part is None:
        return None
    plain = Shown(value=part.accuracy, reference=part.bf16_accuracy, items=part.questions, interval=part.drop_points)
    return decided(record, "accuracy_drop_points", plain, task)


def speed_look(record: Record) -> Shown | None:
    """Tokens per second, and the ratio to BF16."""
    part = record.throughput
    if part is None:
        return None
    plain = Shown(value=part.mean_tps, reference=None, items=part.total_runs, interval=part.ratio)
    return plain if part.ratio_suppressed else decided(record, "throughput_ratio", plain)


def perplexity(value: float | None) -> str:
    """Three digits behind the point, none of one that overflows its use."""
    return MISSING if value is None else f"{value:,.3f}" if value < 1000 else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in percent, without its sign."""
    return MISSING if value is None else f"{100 * value:.{digits}f}"
