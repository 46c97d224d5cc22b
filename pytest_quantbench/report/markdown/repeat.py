"""How to measure again what the report shows, as far as the records tell."""

from collections.abc import Sequence

from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.phrases import cells

MEASURED = (
    "In the folder that they were typed in, with the versions above, these measure what the report shows, in this "
    "order. What an earlier session has measured is taken from the cache; `--fresh` measures all of it again. Limits "
    "and models in `[tool.quantbench]` of a pyproject.toml there hold as they did."
)
UNKNOWN = "No command is known of {}: a program measured it, or a version that did not keep commands."


def commands_of(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by the commands that parts of them were measured by, in the records' order."""
    found: dict[str, list[Record]] = {}
    for record in records:
        for command in record.commands:
            found.setdefault(command, []).append(record)
    return found


def section(records: Sequence[Record], commands: Sequence[str]) -> list[str]:
    """The commands of all records with their cells, what is not known, and `commands` that make the report again."""
    lines = ["## Repeat it", ""]
    found = commands_of(records)
    if found:
        lines += [MEASURED, ""]
    for command, of in found.items():
        lines += [*_fenced(command), "", f"measured {text(cells(of, records))}.", ""]
    if unknown := [record for record in records if not record.commands]:
        lines += [text(UNKNOWN.format(cells(unknown, records))), ""]
    if commands:
        lines += ["The report again, from the records alone:", "", *_fenced(*commands), ""]
    return lines


def _fenced(*commands: str) -> list[str]:
    """Each on one line, as they are typed."""
    return [f"    {' '.join(command.splitlines())}" for command in commands]
