"""docs/reading-a-report.md explains a recorded report: its numbers are that report's, and nothing is left out."""

import re
from pathlib import Path

import pytest

from pytest_quantbench.report.markdown import verdict_table
from pytest_quantbench.report.tables import MARKS, MISSING

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reading-a-report.md").read_text()
REPORT = (ROOT / "tests" / "recorded" / "report_Tiny.md").read_text().replace("\u00a0", " ")
# What the page says of the run, and the beginning of the row and the place in it where the report has it.
QUOTED = {
    "+0.071 [-0.243, +0.649] ✓": ("| … Δ |", 5),
    "`71.7 ✓`": ("| smaller than BF16, % |", 3),
    "`3.750`": ("| perplexity |", 1),
    "`3.49`": ("| bits per weight, decoder layers |", 4),
    "`3.65`": ("| bits per weight, whole model |", 4),
    "`24, 6`": ("| … answers lost, gained |", 4),
}


def cells(begins):
    line = next(line for line in REPORT.splitlines() if line.startswith(begins))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_number_on_the_page_is_the_reports(quoted):
    begins, place = QUOTED[quoted]
    assert quoted in PAGE
    assert cells(begins)[place].startswith(quoted.strip("`"))


def test_the_row_of_verdicts_is_the_reports_and_is_read_rightly():
    (row,) = re.findall(r"^> (\| Tiny-int4 .*)$", PAGE, re.MULTILINE)
    assert row in REPORT.splitlines()
    found = dict(zip(verdict_table.COLUMNS, (cell.strip() for cell in row.strip("|").split("|")), strict=True))
    assert f"lost {found['Found'].split()[0]} points of accuracy on `tiny_facts`, and fewer than 3 are allowed" in PAGE
    assert f"as this in {found['Luck if good']} of all tries" in PAGE
    assert f"With {found['Tells from the limit']} the truth" in PAGE


def test_every_mark_and_every_section_is_explained():
    for sign in (*MARKS.values(), MISSING):
        assert f"| {sign}" in PAGE
    told = re.findall(r"^## (.*)$", REPORT, re.MULTILINE)
    left_out = {"Pictures", "Model by model", "Are the weights what they should be?"}  # they explain themselves
    for heading in set(told) - left_out:
        assert heading in PAGE


def test_every_column_of_the_verdicts_is_explained():
    for column in verdict_table.COLUMNS[5:]:
        assert re.search(rf"[*]{re.escape(column)}[*]", PAGE) or column == "Luck if bad", column
    assert "*Luck if bad*" in PAGE
