"""Tables in markdown, row by row or whole, as every report and every script that writes one has them.

Cells are text. Markdown knows a cell by the bars around it and a row by its line, so a bar inside a cell is escaped and
a line's end there becomes a space: whatever a model is called, it stays in its column.
"""

from collections.abc import Iterable, Sequence


def row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def head(names: Sequence[str]) -> list[str]:
    """The two lines that a table begins with: the names of its columns, and the rule below them."""
    return [row(names), "|---" * len(names) + "|"]


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table with columns of these names. Raises ValueError for a row of more or fewer cells."""
    lines = head(names)
    for cells in rows:
        if len(cells) != len(names):
            raise ValueError(f"A row of {len(cells)} cells in a table of {len(names)} columns: {list(cells)}.")
        lines.append(row(cells))
    return lines


def _plain(cell: str) -> str:
    return " ".join(cell.splitlines()).replace("|", "\\|")
