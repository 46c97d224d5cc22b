"""How long models take from their files to the first token: a table, a row for each kind of loads of a cell."""

from collections.abc import Sequence

from pytest_quantbench.measures.load.samples import STAGES
from pytest_quantbench.record.load_schema import Load, Loads
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.markdown.figures import TIED, ranged
from pytest_quantbench.report.tables import MISSING, significant
from pytest_quantbench.stats.spread import Spread

COLUMNS = (
    "Cell",
    "Files were",
    "First token, s",
    "Least, most",
    "Loads",
    "× BF16",
    "Start, s",
    "Opening",
    "Tokenizer",
    "Weights",
    "First token",
    "GB/s",
    "Files, GB",
    "Memory added, GB",
    "Peak",
    "By",
)

LEGEND = (
    "Not judged. Each load is a fresh process: *start* is that process with its libraries, *weights* until they are in "
    "memory as they are multiplied, and the last stage the first token of a short prompt with all that is made when it "
    "is first needed. × BF16 compares loads of the same rounds. *On disk*: the files' pages had been given back by {}."
)


def section(records: Sequence[Record]) -> list[str]:
    """A row for each kind of loads; why there are none of a kind stands below. Nothing where nothing was loaded."""
    loaded = [(record, record.load) for record in records if record.load is not None]
    rows = [row for record, part in loaded for row in _rows(record, part)]
    if not loaded:
        return []
    how = dict.fromkeys(part.cold_by for _, part in loaded if part.cold_by)
    notes = [f"- {text(record.cell)}: {text(why)}" for record, part in loaded for why in part.lacks.values()]
    table = markdown_table.table(COLUMNS, rows) if rows else []
    legend = LEGEND.format(" or ".join(how)) if how else LEGEND.partition(" *On disk*")[0]
    return ["## Loading", "", legend, "", *table, "", *notes, *([""] if notes else [])]


def _rows(record: Record, part: Load) -> list[list[str]]:
    kinds = (("on disk", part.cold), ("in memory", part.warm))
    return [_row(record, part, where, found) for where, found in kinds if found is not None]


def _row(record: Record, part: Load, where: str, found: Loads) -> list[str]:
    total = found.first_token_sec
    return [
        text(record.cell),
        where,
        _with_deviation(total),
        f"{significant(total.least)}, {significant(total.most)}",
        f"{total.n}",
        ranged(found.ratio, 2),
        *(_mean(found.stage_sec.get(stage)) for stage in STAGES),
        significant(found.gb_per_sec.mean, 2),
        significant(part.gb),
        _with_deviation(part.added_gb),
        significant(part.peak_gb),
        text(part.loader),
    ]


def _with_deviation(found: Spread) -> str:
    return significant(found.mean) + ("" if found.std is None else f"{TIED}±{TIED}{significant(found.std, 2)}")


def _mean(found: Spread | None) -> str:
    return MISSING if found is None else significant(found.mean, 2)
