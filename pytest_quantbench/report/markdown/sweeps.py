"""T1 in full: a table for each kind of points and each model. Computes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.sweep_schema import SweepPoint
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.markdown.figures import TIED, ranged
from pytest_quantbench.report.tables import MISSING, share_of_bandwidth, significant
from pytest_quantbench.stats.gaps import Spread

MILLISECONDS = 1e3
PERCENTS = ("50", "90", "95", "99", "99.9")
TELLS = (
    "Tokens per second are mean ± standard deviation of n runs (least to most). × BF16 is of pairs of runs that stood "
    "beside each other, with its interval; where the machine's own speed changed meanwhile there is none. Gaps are "
    "between tokens of a text, at p50, p90, p95, p99 and p99.9, in milliseconds, and how many times BF16's these are. "
    "Percentiles for which there are too few gaps are left out."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of one kind's table."""

    title: str
    figure: Callable[[SweepPoint], str]


def section(records: Sequence[Record]) -> list[str]:
    """All models that were swept; nothing where none was."""
    swept = [record for record in records if record.sweep is not None]
    if not swept:
        return []
    lines = ["## Speed by batch, depth and length", "", TELLS, ""]
    for model in dict.fromkeys(record.model_id for record in swept):
        mine = [record for record in swept if record.model_id == model]
        for kind, columns in TABLES.items():
            lines += _table(model, kind, columns, mine)
        lines += _left_out(mine)
    return lines


def _table(model: str, kind: str, columns: Sequence[Column], records: Sequence[Record]) -> list[str]:
    found = [(record, point) for record in records for point in _measured(record) if point.kind == kind]
    if not found:
        return []
    found.sort(key=lambda each: (each[1].rows, each[1].depth))
    rows = [[text(record.recipe), *(column.figure(point) for column in columns)] for record, point in found]
    heads = ["recipe", *(column.title for column in columns)]
    return [f"### {text(model)}: {kind}", "", *markdown_table.table(heads, rows), ""]


def _measured(record: Record) -> list[SweepPoint]:
    return [] if record.sweep is None else [point for point in record.sweep.points if point.rate is not None]


def _left_out(records: Sequence[Record]) -> list[str]:
    """Points that were not measured, each reason once."""
    told = dict.fromkeys(
        f"- {point.kind}, {point.rows} × {point.depth:,} tokens was left out: {text(point.skipped)}."
        for record in records
        for point in (record.sweep.points if record.sweep else ())
        if point.skipped
    )
    return [*told, ""] if told else []


def _spread(found: Spread | None, factor: float = 1.0) -> str:
    if found is None:
        return MISSING
    mean, least, most = (significant(factor * each) for each in (found.mean, found.least, found.most))
    around = "" if found.deviation is None else f"{TIED}±{TIED}{significant(factor * found.deviation, 2)}"
    return f"{mean}{around} ({least} to {most}, n{TIED}={TIED}{found.count})"


def _ratio(point: SweepPoint) -> str:
    return f"none: {text(point.ratio_suppressed)}" if point.ratio_suppressed else ranged(point.ratio, 2)


def _gaps(point: SweepPoint) -> str:
    each = point.gap_percentiles
    if not each:
        return MISSING
    return " / ".join(significant(MILLISECONDS * each[name].estimate) if name in each else MISSING for name in PERCENTS)


def _gap_ratios(point: SweepPoint) -> str:
    shown = [name for name in PERCENTS if name in point.gap_ratios and name not in point.left_out]
    return "; ".join(f"p{name} {ranged(point.gap_ratios[name], 2)}" for name in shown) or MISSING


def _firsts(point: SweepPoint) -> str:
    each = point.first_token_percentiles
    return " / ".join(ranged(each[name], 0, factor=MILLISECONDS) for name in each) or MISSING


TEXTS = Column(title="texts", figure=lambda point: str(point.rows))
DEPTH = Column(title="tokens before", figure=lambda point: f"{point.depth:,}")
RATE = Column(title="tokens/s", figure=lambda point: _spread(point.rate))
RATIO = Column(title="× BF16", figure=_ratio)
FIRST = Column(title="first token, ms", figure=lambda point: _spread(point.first_token_sec, MILLISECONDS))
GAPS = Column(title="gaps, ms", figure=_gaps)
GAP_RATIOS = Column(title="gaps × BF16", figure=_gap_ratios)
SHARE = Column(title="of the bandwidth", figure=lambda point: share_of_bandwidth(point.bound_share) or MISSING)
STEP = Column(title="step", figure=lambda point: point.step)
TABLES: Mapping[str, Sequence[Column]] = {
    "decode": (TEXTS, DEPTH, RATE, RATIO, GAPS, GAP_RATIOS, SHARE, STEP),
    "prefill": (DEPTH, RATE, RATIO, FIRST),
    "end to end": (RATE, RATIO, FIRST, GAPS, GAP_RATIOS),
    "requests": (TEXTS, RATE, RATIO, Column(title="first token p50 / p99, ms", figure=_firsts), GAPS, GAP_RATIOS),
}
