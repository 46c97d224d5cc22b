"""A record → its row of the table of cells: what is said of it, its figures, what it is filtered by."""

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog.criteria import asked_of
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import outcome_of
from pytest_quantbench.report.answers import CellAnswer, answer
from pytest_quantbench.report.html.columns import REFERENCE_WORD, Column, Figure, columns
from pytest_quantbench.report.html.how_sure import Certainty, Family, certainties, families

# What cells are filtered by besides their verdict; of cells that fail, too.
STATES = {
    "undecided": "one is undecided",
    "fail": "one is missed",
    "partial": "not all that are asked are judged",
    "taken-back": "one falls to Holm's correction",
}


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
    judged: str  # on how many of the criteria, where not on all
    states: Sequence[str]  # those of STATES that hold
    certainties: Sequence[Certainty]  # of each verdict


def rows(records: Sequence[Record]) -> list[Row]:
    """A row for each record, in their order."""
    corrected, shown = families(records), columns(records)
    return [_row(record, corrected[record.recipe], shown) for record in records]


def _row(record: Record, family: Family, shown: Sequence[Column]) -> Row:
    said = answer(record)
    word = REFERENCE_WORD if said is None else said.word
    sure = certainties(record, family)
    return Row(
        name=record.cell,
        model=record.model_id,
        recipe=record.recipe,
        level=record.level,
        word=word,
        outcome=REFERENCE_WORD if said is None else outcome_of(record),
        answer=said,
        figures=[column.figure(record) for column in shown],
        judged="" if said is None else _judged_on(record),
        states=[] if said is None else [state for state in STATES if _is(state, record, sure)],
        certainties=sure,
    )


def _criteria(record: Record) -> set[str]:
    """The metrics that say something of a cell."""
    return {verdict.metric for verdict in record.verdicts if verdict.outcome != "informational"}


def _judged_on(record: Record) -> str:
    """`2 of 4 criteria`; empty where all or none were judged."""
    found, asked = len(_criteria(record)), len(asked_of(record.kind))
    return "" if found in (0, asked) else f"{found} of {asked} criteria"


def _is(state: str, record: Record, sure: Sequence[Certainty]) -> bool:
    if state == "taken-back":
        return any(each.taken_back for each in sure)
    if state == "partial":
        return len(_criteria(record)) < len(asked_of(record.kind))
    return any(verdict.outcome == state for verdict in record.verdicts)
