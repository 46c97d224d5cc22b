"""Records → the lines of the terminal: a line for each cell, then what holds over all. Computes nothing."""

from collections.abc import Sequence

from pytest_quantbench.catalog.criteria import CRITERIA
from pytest_quantbench.catalog.recipes import LEVELS
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import SuiteVerdict, judge_suite
from pytest_quantbench.report import candidates
from pytest_quantbench.report.tables import MISSING, TABLES, calibration, coherence, errors_by_source, mark

OPEN: tuple[Outcome, ...] = ("undecided", "anomalous")  # neither good nor bad
FINDINGS_SHOWN = 5  # of a cell, in the terminal
LEGEND = (
    "✓ pass · ✗ fail · ? undecided · ! better than its reference · · measured, not judged · – not measured. Intervals: "
    "5 % error on each side, less where a check was decided before its last look."
)


def terminal_line(record: Record) -> str:
    """One line for a cell: what was measured of it, with intervals and verdicts."""
    shown = [
        f"{table.figure(record)} {mark(record, table.metric)}".rstrip()
        for table in TABLES
        if table.metric is not None and table.figure(record) != MISSING
    ]
    return " │ ".join([f"{record.model_id}-{record.recipe}", *shown])


def heading(records: Sequence[Record]) -> str:
    """What stands in the columns of `terminal_line`, for all that was measured of any record."""
    shown = [t.title for t in TABLES if t.metric is not None and any(t.figure(r) != MISSING for r in records)]
    return " │ ".join(["cell", *shown])


def summary(records: Sequence[Record]) -> list[str]:
    """What the terminal says: a line for each cell, what could not be decided, and what holds over all."""
    lines = [heading(records), *map(terminal_line, records)]
    lines += [told for record in records for told in sentences(record, OPEN)]
    return [
        *lines,
        *suite_lines(records),
        *coherence_lines(records),
        *integrity_lines(records),
        *runtime_lines(records),
        *calibration_lines(records),
        *candidates.lines(records),
        LEGEND,
    ]


def sentences(record: Record, outcomes: Sequence[Outcome] = ("fail", *OPEN)) -> list[str]:
    """Why a cell failed, could not be decided or is better than its reference: one sentence for each such verdict."""
    name = f"{record.model_id}-{record.recipe}"
    told = [verdict for verdict in record.verdicts if verdict.outcome in outcomes]
    return [f"{name} {verdict.outcome}: {explain(verdict)}" for verdict in told]


def coherence_lines(records: Sequence[Record]) -> list[str]:
    """Which cells have collapsed, or that none has; nothing where coherence was not measured."""
    measured = [record for record in records if record.coherence is not None]
    collapsed = [record for record in measured if record.coherence is not None and record.coherence.collapsed]
    lines = [f"coherence: {record.model_id}-{record.recipe} has {coherence(record)}" for record in collapsed]
    return lines or (["coherence: no cell has collapsed"] if measured else [])


def integrity_lines(records: Sequence[Record], most: int | None = FINDINGS_SHOWN) -> list[str]:
    """What is wrong with the decoded weights of any cell, or that nothing is; nothing where none were compared."""
    compared = [record for record in records if record.integrity is not None]
    lines = []
    for record in compared:
        found, name = record.integrity or (), f"integrity: {record.model_id}-{record.recipe}"
        lines += [f"{name}: {sentence}" for sentence in found[:most]]
        if most is not None and len(found) > most:
            lines.append(f"{name}: and {len(found) - most} more findings, in its record")
        lines += [f"{name} differs from its reference: {note}" for note in record.integrity_notes]
    return lines or (["integrity: all decoded weights are the source's, but for rounding"] if compared else [])


def runtime_lines(records: Sequence[Record]) -> list[str]:
    """Of every candidate that its own runtime ran: what the file lost, and what the runtime adds."""
    ran = [record for record in records if record.runtime is not None]
    return [f"runtime: {record.model_id}-{record.recipe}: {errors_by_source(record)}" for record in ran]


def calibration_lines(records: Sequence[Record]) -> list[str]:
    """On which text each recipe was calibrated; recipes with the same one share a line."""
    found: dict[str, list[str]] = {}
    for record in records:
        if told := calibration(record):
            found.setdefault(told, []).append(f"{record.model_id}-{record.recipe}")
    return [f"calibration: {', '.join(names)} on {told}" for told, names in found.items()]


def explain(verdict: Verdict | SuiteVerdict) -> str:
    """A verdict's sentence and, where it is undecided, what would settle it."""
    needed = f" {verdict.needed[0].upper()}{verdict.needed[1:]}." if verdict.needed else ""
    return verdict.sentence + needed


def suite_lines(records: Sequence[Record]) -> list[str]:
    """For every recipe of a level with criteria, or that was judged by limits of the user's: how many models meet them
    all. For every candidate, which is a file of one model: what its criteria say.
    """
    recipes_of = [record for record in records if record.candidate is None]
    found = {record.recipe: record.level for record in recipes_of if record.level in CRITERIA or _is_judged(record)}
    recipes = [recipe for level in LEVELS for recipe in sorted(found) if found[recipe] == level]
    suites = [f"{recipe}: {judge_suite(recipe, records).sentence}" for recipe in recipes]
    return suites + candidates.answers(records)


def _is_judged(record: Record) -> bool:
    return any(verdict.limit is not None for verdict in record.verdicts)
