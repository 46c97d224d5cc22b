"""What a terminal shows of records, as text."""

from pytest_quantbench.report import terminal
from pytest_quantbench.report.coloured import as_text


def shown(records, width=200):
    """The lines, without colours."""
    return [as_text(line, colours=False) for line in terminal.summary(records, width)]


def row(record, width=80):
    """The line of a cell's figures, with one blank between two of them."""
    begin = f"  {record.recipe} "
    (found,) = (line for line in shown([record], width) if line.startswith(begin))
    return " ".join(found.split())
