"""Two runs compared → the lines of a terminal, and markdown. The answer stands first. Computes nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from pytest_quantbench.judge.change import FIGURES, Change, shown, worsening
from pytest_quantbench.record.baseline import Held
from pytest_quantbench.record.folder_comparison import CellChange, Comparison
from pytest_quantbench.report import markdown_table
from pytest_quantbench.stats.estimates import Interval

WIDTH = 80
SIGNS = {
    "regression": "✗ regression",
    "better": "✓ better",
    "no difference can be told": "· no difference",
    "identical": "= identical",
    "not judged": "· not judged",
    "not compared": "– not compared",
}
EXPLAINED = (
    "Intervals: 5 % error on each side, of one figure by itself. A regression lies beyond the noise floor after Holm's "
    "correction over all figures."
)
SEEN = " The last column is what would have been seen with 80 % power."


def answer(found: Comparison) -> list[str]:
    """Whether anything got worse, in sentences."""
    cells = f"{len(found.cells)} cell{'' if len(found.cells) == 1 else 's'}"
    figures = f"{found.compared} figure{'' if found.compared == 1 else 's'} of {cells}"
    if not found.compared:
        return [f"Nothing could be compared ({cells} on both sides)."]
    if not found.regressions:
        same = all(c.word in ("identical", "not compared", "not judged") for cell in found.cells for c in cell.changes)
        if same:
            return [f"No regression in {figures}: all samples are the same to the last bit."]
        least = [f"{FIGURES[metric].label} {worsening(metric, size)}" for metric, size in found.least.items() if size]
        would = f" In each, a worsening of so much would have been seen: {', '.join(least)}." if least else ""
        return [f"No regression in {figures}.{would}"]
    several = "" if len(found.regressions) == 1 else "s"
    told = [f"{name} {change.sentence}" for name, change in found.regressions]
    return [f"{len(found.regressions)} regression{several} in {figures}:", *told]


def terminal(found: Comparison, width: int = WIDTH) -> list[str]:
    """The answer, then a table, then what could not be compared, and what is told beside."""
    lines = [line for told in answer(found) for line in _wrapped(told, width)]
    for cell in found.cells:
        lines += ["", _heading(cell), *_rows(cell)]
    below = [*reasons(found), *alone(found), EXPLAINED]
    return [*lines, "", *(line for told in below for line in _wrapped(told, width))]


def _rows(cell: CellChange) -> list[str]:
    """A line for each figure, or one where all are the same to the last bit."""
    if {change.word for change in cell.changes} == {"identical"}:
        return [f"  = identical to the last bit in all {len(cell.changes)} figures"]
    return [_row(change) for change in cell.changes]


def _wrapped(told: str, width: int, indent: str = "") -> list[str]:
    return wrap(told, width, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)


def _heading(cell: CellChange) -> str:
    return cell.name if cell.name == cell.base_name else f"{cell.name} (against {cell.base_name})"


def _row(change: Change) -> str:
    """In 80 columns: the figure, its difference, the verdict, what would have been seen."""
    name = _short(change)
    return f"  {name:<24} {difference(change):<34} {SIGNS[change.word]}".rstrip()


def _short(change: Change) -> str:
    name = change.of if change.of and change.metric == "accuracy" else change.name
    return name if len(name) <= 24 else name[:23] + "…"


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
        for change in cell.changes:
            if change.word in ("not compared", "not judged") or "worse by itself" in change.sentence:
                told.setdefault(change.sentence, []).append(cell.name)
        for note in cell.notes:
            told.setdefault(note, []).append(cell.name)
    every = len(found.cells)
    return [f"{_named(names, every)}: {sentence}" for sentence, names in told.items()]


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


def baseline_lines(held: Held, baseline: Path) -> list[str]:
    """What a session found against its baseline, the answer first, which cells fail since nothing of them could be
    compared, and which have no record there.
    """
    found = held.comparison
    if not found.cells:
        return [f"baseline {baseline}: no cell of this session was held against it, so the run fails."]
    first, *rest = answer(found)
    failing = f"Nothing of {', '.join(held.uncompared)} could be compared, so the run fails."
    told = [*rest, *([failing] if held.uncompared else []), *reasons(found)]
    new = [f"{name}: no record of it in the baseline." for name in found.only_new]
    return [f"baseline {baseline}: {first}", *(f"  {each}" for each in (*told, *new))]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
