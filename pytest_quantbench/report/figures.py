"""A cell's figures as the columns of a terminal's table, in three widths. Computes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import difference, worst
from pytest_quantbench.report.coloured import TONES, Piece
from pytest_quantbench.report.tables import MARKS, MISSING, number, significant, tiny
from pytest_quantbench.stats.estimates import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A figure of every cell; of one with a metric the verdict's sign follows."""

    title: str
    figure: Callable[[Record], str]
    metric: str | None = None
    of_reference: Callable[[Record], str] | None = None  # None: as of any cell

    def shown(self, record: Record) -> str:
        """The figure as text."""
        is_reference = record.recipe == REFERENCE.id and self.of_reference is not None
        return self.of_reference(record) if is_reference and self.of_reference is not None else self.figure(record)

    def sign(self, record: Record) -> Piece:
        """The verdict's; a blank where there is none."""
        verdict = None if self.metric is None or record.recipe == REFERENCE.id else worst(record, self.metric)
        return Piece(" ") if verdict is None else Piece(MARKS[verdict.outcome], TONES.get(verdict.outcome, "plain"))


def short(value: float) -> str:
    """A figure of any size in at most six columns, but for its sign: `0.081`, `6.14`, `70.4`, `224`."""
    digits = next((places for places, below in ((3, 1.0), (2, 10.0), (1, 100.0)) if abs(value) < below), 0)
    return f"{value:z.{digits}f}" if abs(value) < 1e5 else f"{value:.1e}"


def _signed(value: float) -> str:
    text = short(value)
    return text if text.startswith("-") else f"+{text}"


def _points(value: float) -> str:
    return f"{value:+z.1f}"


Form: TypeAlias = Callable[[Interval, Callable[[float], str]], str]  # of an interval, its numbers as they are shown


def _with_reach(found: Interval, shown: Callable[[float], str]) -> str:
    """`+0.081 ±0.115`."""
    return f"{shown(found.estimate)} ±{shown(found.reach).lstrip('+')}"


def _with_ends(found: Interval, shown: Callable[[float], str]) -> str:
    """`+0.081 [-0.046, +0.195]`."""
    return f"{shown(found.estimate)} [{shown(found.low)}, {shown(found.high)}]"


def _bare(found: Interval, shown: Callable[[float], str]) -> str:
    return shown(found.estimate)


def _difference(metric: str, form: Form, shown: Callable[[float], str]) -> Callable[[Record], str]:
    """A metric's difference from the reference with its interval; without one, what there is."""

    def figure(record: Record) -> str:
        found, verdict = difference(record, metric), worst(record, metric)
        if found is not None:
            return form(found, shown)
        if verdict is None or verdict.estimate is None:
            return "overflow" if verdict is not None and verdict.outcome == "fail" else MISSING
        return shown(verdict.estimate)

    return figure


def _bits(record: Record) -> str:
    return number(None if record.compression is None else record.compression.bits_per_weight, 2)


def _cache_bits(record: Record) -> str:
    size = record.cache and record.cache.size
    return number(size.bits_per_value, 2) if size else MISSING


def _cache_size(record: Record) -> str:
    size = record.cache and record.cache.size
    return f"{-size.reduction_percent:+z.1f}%" if size else MISSING


def _size(record: Record) -> str:
    if record.kind == "cache":
        return "same"  # weights are as they are
    return f"{100 * (record.compression.ratio - 1):+z.1f}%" if record.compression else MISSING


def size_of(gigabytes: float) -> str:
    """`2.08 MB`, `3.74 GB`, `1,340 GB`: three digits that count."""
    value, unit = (gigabytes, "GB") if gigabytes >= 0.9995 else (1000 * gigabytes, "MB")
    return f"{significant(value)} {unit}"


def _gigabytes(record: Record) -> str:
    if record.compression is None:
        return MISSING
    return size_of(record.compression.compressed_gb)


def _rate(record: Record) -> str:
    return f"{short(record.throughput.mean_tps)}/s" if record.throughput else MISSING


def _ratio(form: Form) -> Callable[[Record], str]:
    """The ratio of speeds; without one, the speed."""

    def figure(record: Record) -> str:
        found = difference(record, "throughput_ratio")
        return _rate(record) if found is None else f"{form(found, short)}×"

    return figure


def _perplexity(record: Record) -> str:
    return short(record.perplexity.ppl) if record.perplexity and record.perplexity.ppl else MISSING


def _divergence(record: Record) -> str:
    found = record.perplexity and record.perplexity.divergence
    return tiny(found.kl_nats) if found else MISSING


def _accuracy(record: Record) -> str:
    tasks = record.accuracy.tasks if record.accuracy else {}
    return next((f"{100 * task.accuracy:.1f}%" for task in tasks.values()), MISSING)


def _against_reference(form: Form, sign: str, ratio: Form) -> tuple[Column, ...]:
    """The columns that show a difference, and in the reference's row what it is from."""
    delta, drop = (
        _difference("perplexity_delta", form, _signed),
        _difference("accuracy_drop_points", form, _points),
    )
    return (
        Column(title="size", figure=_size, metric="size_reduction_percent", of_reference=_gigabytes),
        Column(title="tok/s ×", figure=_ratio(ratio), metric="throughput_ratio", of_reference=_rate),
        Column(title=f"ΔPPL{sign}", figure=delta, metric="perplexity_delta", of_reference=_perplexity),
        Column(title=f"acc drop{sign}", figure=drop, metric="accuracy_drop_points", of_reference=_accuracy),
    )


BY_DEPTH = (
    Column(
        title="deep ΔPPL ±",
        figure=_difference("depth_perplexity_delta", _with_reach, _signed),
        metric="depth_perplexity_delta",
    ),
    Column(
        title="retr drop ±",
        figure=_difference("retrieval_drop_points", _with_reach, _points),
        metric="retrieval_drop_points",
    ),
)
BITS = Column(title="bpw", figure=_bits)
NARROW = (BITS, *_against_reference(_with_reach, " ±", _bare))
WIDE = (BITS, *_against_reference(_with_ends, "", _with_ends))
PLAIN = (  # figures by themselves
    Column(title="file", figure=_gigabytes),
    Column(title="tok/s", figure=_rate),
    Column(title="PPL", figure=_perplexity),
    Column(title="KL nats", figure=_divergence),
    Column(title="acc", figure=_accuracy),
)
LAYOUTS: Sequence[tuple[int, Sequence[Column]]] = ((160, (*WIDE, *PLAIN)), (120, WIDE), (0, NARROW))  # from so wide on
CACHE = (Column(title="kv bits", figure=_cache_bits), Column(title="kv size", figure=_cache_size))


def layouts(records: Sequence[Record]) -> list[tuple[int, Sequence[Column]]]:
    """`LAYOUTS`, where a cell quantizes its cache with what that takes, and with what it loses by depth and in
    retrieval, as far as there is room: without the bits per weight where there is little.
    """
    if all(record.cache is None for record in records):
        return list(LAYOUTS)
    by_depth = [each for each in BY_DEPTH if any(worst(record, each.metric or "") for record in records)]
    held = [(least, (bits, *CACHE, *others)) for least, (bits, *others) in LAYOUTS]
    deep = [(least, (*shown, *by_depth)) for least, shown in held]
    return [*deep, *held, (0, (*CACHE, *NARROW[1:])), (0, (CACHE[0], *NARROW[1:]))]


def listed(records: Sequence[Record]) -> Sequence[Column]:
    """The columns whose figures stand behind each other where there is room for no table."""
    return NARROW if all(record.cache is None for record in records) else (*NARROW, *CACHE, *BY_DEPTH)
