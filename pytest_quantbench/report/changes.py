"""Two runs compared → the lines of a terminal, and markdown. The answer stands first. Computes nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_quantbench.judge.change import Change
from pytest_quantbench.judge.figures import FIGURES, shown, worsening
from pytest_quantbench.record.folder_comparison import UNCOMPARED, CellChange, Comparison
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import since_baseline
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.text_width import columns, left, wrapped
from pytest_quantbench.stats.estimates import Interval

WIDTH = 80
NAME_WIDTH = 24
SIGNS = {
    "regression": "✗ regression",
    "better": "✓ better",
    "no difference can be told": "· no difference",
    "identical": "= identical",
    "not judged": "· not judged",
    "not compared": "– not compared",
    "not in the base": "+ not in the base",
}
EXPLAINED = (
    "Intervals: 5 % error on each side, of one figure by itself. A regression lies beyond the noise floor after Holm's "
    "correction over all figures."
)
SEEN = " The last column is what would have been seen with 80 % power."


def answer(found: Comparison) -> list[str]:
    """Whether anything got worse, in sentences."""
    cells = _counted(len(found.cells), "cell")
    missing = list(_missing(found))
    figures = "; ".join([f"{_counted(found.compared, 'figure')} of {cells}", *missing])
    if not found.compared:
        return [f"Nothing could be compared ({cells} on both sides)."]
    if not found.regressions:
        words = {change.word for cell in found.cells for change in cell.changes}
        if not missing and words <= {"identical", "not judged", "not in the base"}:
            return [f"No regression in {figures}: all samples are the same to the last bit."]
        least = [f"{FIGURES[metric].label} {worsening(metric, size)}" for metric, size in found.least.items() if size]
        would = f" In each, a worsening of so much would have been seen: {', '.join(least)}." if least else ""
        return [f"No regression in {figures}.{would}"]
    told = [f"{name} {change.sentence}" for name, change in found.regressions]
    return [f"{_counted(len(found.regressions), 'regression')} in {figures}:", *told]


def _missing(found: Comparison) -> Iterator[str]:
    """How much of the base was not compared."""
    if found.uncompared:
        yield f"{_counted(found.uncompared, 'figure')} could not be compared"
    if found.only_base:
        yield f"{_counted(len(found.only_base), 'cell')} of the base could not be found in the new run"


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def terminal(found: Comparison, width: int = WIDTH) -> list[str]:
    """The answer, then a table, then what could not be compared, and what is told beside."""
    lines = [line for told in answer(found) for line in wrapped(told, width, "  ", "")]
    for cell in found.cells:
        lines += ["", *wrapped(_heading(cell), width), *_rows(cell, width)]
    below = [*reasons(found), *alone(found), EXPLAINED]
    return [*lines, "", *(line for told in below for line in wrapped(told, width, "  ", ""))]


def _rows(cell: CellChange, width: int) -> list[str]:
    """A line for each figure, or one where all are the same to the last bit. A name that is too wide for its column has
    lines of its own.
    """
    if {change.word for change in cell.changes} == {"identical"}:
        return [f"  = identical to the last bit in all {len(cell.changes)} figures"]
    return [line for change in cell.changes for line in _row(change, width)]


def _heading(cell: CellChange) -> str:
    return cell.name if cell.name == cell.base_name else f"{cell.name} (against {cell.base_name})"


def _row(change: Change, width: int) -> list[str]:
    """In 80 columns: the figure, its difference, the verdict."""
    name = change.of if change.of and change.metric == "accuracy" else change.name
    above = [] if columns(name) <= NAME_WIDTH else wrapped(name, width, "  ")
    beside = "" if above else name
    return [*above, f"  {left(beside, NAME_WIDTH)} {difference(change):<34} {SIGNS[change.word]}".rstrip()]


def difference(change: Change) -> str:
    """`+0.213 [+0.112, +0.320]`, or the missing sign."""
    if change.estimate is None or change.low is None or change.high is None:
        return "–"
    found = Interval(estimate=change.estimate, low=change.low, high=change.high)
    return shown(found, FIGURES[change.metric])


def reasons(found: Comparison) -> list[str]:
    """Why figures were not compared or not judged, and what is told beside: each sentence once, with all its cells."""
    told: dict[str, list[str]] = {}
    for cell in found.cells:
        by_itself = [each.sentence for each in cell.changes if "worse by itself" in each.sentence]
        for sentence in (*_uncompared(cell), *by_itself, *cell.notes):
            told.setdefault(sentence, []).append(cell.name)
    every = len(found.cells)
    return [f"{_named(names, every)}: {sentence}" for sentence, names in told.items()]


def _uncompared(cell: CellChange) -> Iterator[str]:
    """Why figures of a cell were not compared or not judged: all that one reason holds for in one sentence."""
    figures: dict[str, list[str]] = {}
    for change in cell.changes:
        if change.word in UNCOMPARED:
            figures.setdefault(change.sentence.removeprefix(f"{change.name}: "), []).append(change.name)
    for why, names in figures.items():
        yield f"{', '.join(names)}: {why}" if names[1:] or not why.startswith(names[0]) else why


def _named(names: Sequence[str], every: int) -> str:
    return f"All {every} cells" if len(names) == every > 1 else ", ".join(names)


def alone(found: Comparison) -> Iterator[str]:
    """Cells that only one side has."""
    for side, names in (("base", found.only_base), ("new", found.only_new)):
        if names:
            yield f"Only in the {side}: {', '.join(names)}."


def markdown(found: Comparison, commands: Sequence[str]) -> str:
    """The same as a page."""
    names = ("cell", "figure", "base", "new", "difference", "verdict", "would have been seen")
    rows = [
        [
            _heading(cell),
            change.name,
            _number(change.base),
            _number(change.new),
            difference(change),
            SIGNS[change.word],
            "–" if change.detectable is None else worsening(change.metric, change.detectable),
        ]
        for cell in found.cells
        for change in cell.changes
    ]
    first, *rest = answer(found)
    lines = ["# Comparison of two runs", "", first, "", *(f"- {each}" for each in rest), *([""] if rest else [])]
    lines += [*markdown_table.table(names, rows), "", EXPLAINED + SEEN, ""]
    lines += [f"- {each}" for each in (*reasons(found), *alone(found))]
    lines += ["", "Made by:", "", *(f"    {command}" for command in commands), ""]
    return "\n".join(lines)


def baseline_lines(records: Sequence[Record], baseline: Path) -> list[str]:
    """What a session found against its baseline, the answer first, and which cells have no record there."""
    cells = [
        CellChange(name=record.cell, base_name=record.cell, changes=tuple(since_baseline(record))) for record in records
    ]
    found = Comparison(cells=tuple(cell for cell in cells if cell.changes))
    told = [line for each in (*answer(found), *reasons(found)) for line in wrapped(each, WIDTH, "    ", "  ")]
    return [f"baseline {baseline}:", *told]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
