"""The report: the answer first, then figures, then how to repeat it; whatever cells are called."""

import dataclasses
import re

import generated_suite
import pytest
from builders import make_perplexity, make_record
from markdown_it import MarkdownIt

from pytest_quantbench.report import markdown
from pytest_quantbench.report.answers import answers

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
ODD = "a|b `c` <img src=x> *d* é模\n# e"
SECTIONS = (
    "Size",
    "Throughput",
    "Perplexity",
    "Accuracy",
    "Criteria met",
    "Model by model",
    "Verdicts, and how sure they are",
    "What the tasks can see",
    "What was encoded",
    "For a publication",
    "Repeat it",
)


@pytest.fixture(scope="module")
def records():
    return generated_suite.records(2, questions=100)


def headings(text):
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_the_answer_comes_first_then_figures_then_how_to_repeat_it(records):
    text = markdown.markdown(records, ["quantbench report results"])
    assert tuple(headings(text)) == SECTIONS
    title, _, *told = text.splitlines()
    assert title == "# Quantization benchmark"
    assert [line.removeprefix("- ") for line in told[: len(answers(records))]] == answers(records)
    assert text.endswith("\n\n    quantbench report results\n")


def test_a_cell_of_which_nothing_was_measured_has_no_figures_and_no_guesses():
    text = markdown.markdown([make_record()], ["c"])
    assert headings(text) == ["Model by model", "For a publication", "Repeat it"]
    assert "| method | nibble |" in text
    assert "nan" not in text.lower()


def test_a_report_of_the_reference_alone_compares_nothing():
    record = make_record(recipe="bf16", level="bf16", bits=16, perplexity=make_perplexity(bf16_ppl=None, delta=None))
    assert headings(markdown.markdown([record], []))[0] == "Model by model"


def test_names_of_any_letters_stay_in_their_places(records):
    """As many tables, rows and cells, and no markup beyond that of the same report with plain names."""
    odd = [dataclasses.replace(record, model_id=f"{ODD}{record.model_id}") for record in records]
    texts = [markdown.markdown(each, []) for each in (odd, records)]
    kinds = [[token.type for token in PARSER.parse(text) if token.type != "inline"] for text in texts]
    assert kinds[0] == kinds[1]
    html = PARSER.render(texts[0])
    assert "<img" not in html
    assert f"<h3>a|b `c` &lt;img src=x&gt; *d* é模 # e{records[0].model_id}</h3>" in html


def test_every_row_has_as_many_cells_as_its_head(records):
    html = PARSER.render(markdown.markdown(records, []))
    tables = re.findall(r"<table>(.*?)</table>", html, re.DOTALL)
    assert len(tables) > 10
    for table in tables:
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        assert len({len(re.findall(r"<t[hd]", row)) for row in rows}) == 1


def test_pictures_stand_behind_the_comparing_tables_with_what_one_sees():
    shown = markdown.Picture(title="A *chart*", tells="Lower is better.", path="my report/kl.svg")
    text = markdown.markdown([make_record()], [], [shown])
    assert "## Pictures\n\n![A \\*chart\\*. Lower is better.](my%20report/kl.svg)\n" in text
    without = markdown.markdown([make_record()], [], [], "Charts are left out.")
    assert "## Pictures\n\nCharts are left out.\n" in without
