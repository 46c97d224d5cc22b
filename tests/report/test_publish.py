"""The end of a session: which files it writes, and that an error there costs no cell's record."""

import dataclasses
import json

import pytest
from builders import make_perplexity, make_record

from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.record import folder
from pytest_quantbench.report.publish import publish


@pytest.fixture
def settings(tmp_path):
    return dataclasses.replace(Settings(), results=tmp_path, report=None)


def test_the_whole_folder_is_published_and_the_terminal_told_of_this_session(settings):
    folder.save(make_record(model_id="Qwen3-8B", perplexity=make_perplexity()), {}, settings.results)
    written = folder.save(make_record(perplexity=make_perplexity()), {}, settings.results)
    session, lines = publish([written, written], settings, "pytest benches", ["T2 of Tiny-int4"], 2_500_000_000)
    assert [record.model_id for record in session] == ["Tiny"]
    assert any("(--fresh measures it again): T2 of Tiny-int4" in line for line in lines)
    assert any("2.5 GB of BF16 weights deleted" in line for line in lines)
    combined = json.loads((settings.results / "combined.json").read_text())
    assert [record["model_id"] for record in combined["records"]] == ["Tiny", "Qwen3-8B"]
    report = (settings.results / "benchmark_int_quant.md").read_text()
    assert "    pytest benches\n" in report
    assert "Qwen3-8B" in report


def test_a_report_goes_where_it_is_asked_for(settings, tmp_path):
    written = folder.save(make_record(), {}, settings.results)
    asked = dataclasses.replace(settings, report=tmp_path / "docs" / "mine.md")
    _, lines = publish([written], asked, "pytest benches", [], 0)
    assert f"report: {asked.report}" in lines
    assert asked.report.is_file()
    assert not any("earlier sessions" in line or "deleted" in line for line in lines)


def test_an_error_is_a_line_and_the_records_stay(settings):
    written = folder.save(make_record(), {}, settings.results)
    (settings.results / "docs").write_text("a file, not a folder")
    asked = dataclasses.replace(settings, report=settings.results / "docs" / "mine.md")
    session, (line,) = publish([written], asked, "pytest benches", [], 0)
    assert [record.model_id for record in session] == ["Tiny"]
    assert line.startswith("DiskError: Cannot write")
    assert written.is_file()
