"""Of cells that were asked for what they had been told: how much of it is found, by depth and hops."""

from collections.abc import Sequence

from pytest_quantbench.record.retrieval_schema import RetrievalStratum
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.markdown.figures import percent, ranged
from pytest_quantbench.report.tables import MARKS, MISSING
from pytest_quantbench.stats.depths import named

COLUMNS = ("Cell", "Tokens before the question", "Hops", "Questions", "BF16, %", "Right, %", "Drop, points", "Verdict")
LEGEND = (
    "Facts stand in filler so many tokens before the question that asks for one (1 hop), or for where a chain of them "
    "leads (2, 3); guessing is right in 25 %. What BF16 cannot do is not judged (*BF16 cannot*); where it is open "
    "whether it can (*can BF16?*), a loss would hardly show. A cell passes where it does at every depth that is "
    "judged, and fails where it does at one after Holm's correction over all."
)


def section(records: Sequence[Record]) -> list[str]:
    """A row for each stratum of each cell; nothing where none was asked."""
    asked = [(record, each) for record in records if record.retrieval for each in record.retrieval.strata]
    if not asked:
        return []
    rows = [_row(record, each) for record, each in asked]
    return ["## Retrieval", "", LEGEND, "", *markdown_table.table(COLUMNS, rows), ""]


def _row(record: Record, each: RetrievalStratum) -> list[str]:
    found = each.accuracy
    return [
        text(record.cell),
        named(each.above, each.up_to),
        str(each.hops),
        f"{found.questions:,}",
        percent(found.bf16_accuracy, 0),
        percent(found.accuracy, 0),
        ranged(found.drop_points, 1, "+"),
        _verdict(each),
    ]


def _verdict(each: RetrievalStratum) -> str:
    if each.reference is None or each.outcome is None:
        return MISSING
    told = f"{each.outcome} {MARKS[each.outcome]}"
    if each.reference == "cannot" and each.outcome != "fail":
        return "BF16 cannot"
    return f"{told} (can BF16?)" if each.reference == "open" else told
