"""The HTML as it is without a script: the answers, the table, provenance; and what stands there for the script."""

import base64
import gzip
import html
import json
import re

import pytest

from pytest_quantbench.report import charts
from pytest_quantbench.report.answers import answers
from pytest_quantbench.report.charts import Charted
from pytest_quantbench.report.html import page
from pytest_quantbench.report.html.names import MEANINGS
from pytest_quantbench.report.html.page import LEGEND, SCRIPTS, STYLES, _resource
from pytest_quantbench.report.html.typeset import typeset


@pytest.fixture(scope="module")
def text(report):
    return report.read_text(encoding="utf-8")


def packets(text):
    found = re.findall(r'<script type="text/plain" data-packet="([^"]*)">([^<]*)</script>', text)
    return {html.unescape(name): json.loads(gzip.decompress(base64.b64decode(packed))) for name, packed in found}


def test_the_answers_stand_on_top(text, cells):
    top = html.unescape(text.partition('id="cells"')[0])
    for sentence in answers([cell.record for cell in cells]):
        assert typeset(sentence) in top


def test_words_and_marks_are_explained(text):
    end = html.unescape(text.partition('id="words"')[2])
    assert LEGEND in html.unescape(text)
    for word, meaning in MEANINGS.items():
        assert f"<dt>{word}</dt><dd>{meaning}</dd>" in end


def test_counts_are_of_all_cells_the_references_too(text, cells):
    counted = re.findall(r"<b>(\d+)</b> ([a-z ]+)</button>", text)
    assert [word for _, word in counted] == ["may ship", "may not ship", "undecided", "not judged", "reference"]
    assert sum(int(count) for count, _ in counted) == len(cells)


def test_each_link_of_the_table_says_model_and_recipe(text, cells):
    links = re.findall(r'class="model"[^>]*><a [^>]*>(.*?)</a>', text)
    told = [re.sub("<[^>]*>", "", link) for link in links]
    assert told == [f"{cell.record.model_id} {cell.record.recipe}" for cell in cells]


def test_every_cell_has_a_row_and_a_packet(text, cells):
    names = [f"{cell.record.model_id}-{cell.record.recipe}" for cell in cells]
    assert re.findall(r'<tr role="row" data-name="([^"]*)"', text) == names
    found = packets(text)
    assert list(found) == names
    for cell, name in zip(cells, names, strict=True):
        assert found[name]["record"]["weights_sha256"] == cell.record.weights_sha256
        assert found[name]["has_arrays"]


def test_losses_are_compared_with_the_models_own_reference(text, cells):
    found = packets(text)
    for cell in cells:
        name = f"{cell.record.model_id}-{cell.record.recipe}"
        shown = found[name]["samples"].get("loss_differences")
        assert (shown is None) == (cell.record.recipe == "bf16")
        if shown:
            beyond = shown["below"] + shown["above"]
            assert sum(shown["counts"]) + beyond == cell.record.perplexity.tokens


def test_nothing_is_loaded_from_elsewhere(text):
    """The HTML names no address to load; what Vega's own script names is packed, and the policy forbids it."""
    assert re.findall(r'(?:src|href)="(?!#|data:,)[^"]*"', text) == []
    assert "default-src 'none'" in html.unescape(text)


def test_commands_and_protocols_are_told(text):
    assert "pytest benches -m int4" in text.partition('id="repeat"')[2]


def test_the_same_cells_make_the_same_page(text, cells):
    assert page(cells, ["pytest benches -m int4"]) == text


def test_records_without_samples_make_a_page(cells):
    found = packets(page([Charted(record=cell.record, arrays={}) for cell in cells[:3]], []))
    assert [each["samples"] for each in found.values()] == [{}, {}, {}]
    assert not any(each["has_arrays"] for each in found.values())


def test_no_records_make_a_page_that_says_so():
    assert "There are no records to report on." in page([], [])


def test_without_the_extra_a_sentence_stands_in_the_place_of_charts(cells, monkeypatch):
    monkeypatch.setattr(charts, "missing", lambda: "Charts are left out: altair not installed.")
    text = page(cells[:2], [])
    assert "Charts are left out: altair not installed." in text
    assert 'id="vega"' not in text


def test_scripts_and_styles_are_short_files():
    """As the Python files are: at most 250 lines each."""
    for name in [
        *(f"script/{script}.js" for script in SCRIPTS),
        *(f"{style}.css" for style in STYLES),
        "template.html",
    ]:
        assert len(_resource(name).splitlines()) <= 250, name
