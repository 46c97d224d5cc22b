"""Markdown tables: what is in a cell stays in it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.report import markdown_table


def cells_of(line):
    """The cells of a row, read as markdown reads them."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_table_is_a_head_a_rule_and_rows():
    assert markdown_table.table(["model", "INT4"], [["Tiny", "3.5 ✓"], ["*limit*", "–"]]) == [
        "| model | INT4 |",
        "|---|---|",
        "| Tiny | 3.5 ✓ |",
        "| *limit* | – |",
    ]
    assert markdown_table.table(["model"], []) == markdown_table.head(["model"])


@given(rows=st.lists(st.lists(st.text("ab|\n\r .", max_size=6), min_size=3, max_size=3), max_size=4))
def test_bars_and_line_ends_leave_the_columns_as_they_are(rows):
    lines = markdown_table.table(["a", "b", "c"], rows)
    assert len(lines) == 2 + len(rows)
    for line, row in zip(lines[2:], rows, strict=True):
        assert len(line.splitlines()) == 1
        assert cells_of(line) == [" ".join(cell.splitlines()).strip() for cell in row]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="A row of 1 cells in a table of 2 columns"):
        markdown_table.table(["a", "b"], [["x"]])
