"""The end of a session: which files it writes, and that an error there costs no cell's record."""

import dataclasses
import json

import generated_suite
import pytest
from builders import make_perplexity, make_record

from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.record import folder
from pytest_quantbench.report import charts
from pytest_quantbench.report.publish import publish, write_all


@pytest.fixture
def settings(tmp_path):
    return dataclasses.replace(Settings(), results=tmp_path, report=None)


def test_the_whole_folder_is_published_and_the_terminal_told_of_this_session(settings):
    folder.save(make_record(model_id="Qwen3-8B", perplexity=make_perplexity()), {}, settings.results)
    mine = make_record(perplexity=make_perplexity(), commands=("pytest benches",))
    written = folder.save(mine, {}, settings.results)
    session, lines = publish([written, written], settings, ["T2 of Tiny-int4"], 2_500_000_000)
    assert [record.model_id for record in session] == ["Tiny"]
    assert any("(--fresh measures it again): T2 of Tiny-int4" in line for line in lines)
    assert any("2.5 GB of BF16 weights deleted" in line for line in lines)
    combined = json.loads((settings.results / "combined.json").read_text())
    assert [record["model_id"] for record in combined["records"]] == ["Tiny", "Qwen3-8B"]
    report = (settings.results / "benchmark_int_quant.md").read_text()
    assert "    pytest benches\n" in report
    assert f"    quantbench report {settings.results}\n" in report
    page = (settings.results / "report.html").read_text()
    assert all(told in text for text in (report, page) for told in ("Qwen3-8B", "pytest benches"))


def test_a_report_goes_where_it_is_asked_for(settings, tmp_path):
    written = folder.save(make_record(), {}, settings.results)
    asked = dataclasses.replace(settings, report=tmp_path / "docs" / "mine.md")
    _, lines = publish([written], asked, [], 0)
    assert f"report: {asked.report}" in lines  # there is nothing that a chart could show
    assert asked.report.is_file()
    assert f"page: {settings.results / 'report.html'}" in lines
    assert not any("earlier sessions" in line or "deleted" in line for line in lines)


def test_an_error_is_a_line_and_the_records_stay(settings):
    written = folder.save(make_record(), {}, settings.results)
    (settings.results / "docs").write_text("a file, not a folder")
    asked = dataclasses.replace(settings, report=settings.results / "docs" / "mine.md")
    session, (line,) = publish([written], asked, [], 0)
    assert [record.model_id for record in session] == ["Tiny"]
    assert line.startswith("DiskError: Cannot write")
    assert written.is_file()


def test_charts_lie_beside_the_report_which_shows_them(tmp_path):
    cells = generated_suite.cells(1, ("int4", "int2"), questions=50)
    generated_suite.write(tmp_path / "results", cells)
    report = tmp_path / "docs" / "my report.md"
    lines = write_all([record for record, _ in cells], tmp_path / "results", report)
    drawn = sorted((tmp_path / "docs" / "my report").glob("*.svg"))
    assert {path.stem for path in drawn} <= charts.CHARTS.keys()
    assert f"report: {report}, with {len(drawn)} charts in {tmp_path / 'docs' / 'my report'}" in lines
    text = report.read_text()
    for path in drawn:
        chart = charts.CHARTS[path.stem]
        assert f"![{chart.title}. {chart.tells}](my%20report/{path.name})\n" in text


def test_without_the_extra_for_charts_one_sentence_says_so(settings, monkeypatch):
    monkeypatch.setattr(charts, "missing", lambda: "Charts are left out.")
    lines = write_all([make_record()], settings.results, settings.results / "r.md")
    assert lines[-1] == "Charts are left out."
    assert (settings.results / "r.md").read_text().count("Charts are left out.") == 1
    assert not list(settings.results.rglob("*.svg"))


def test_commands_name_the_folder_as_it_is_called_from_here(tmp_path, monkeypatch):
    """A report that is committed must not tell whose disk it was made on."""
    monkeypatch.chdir(tmp_path)
    write_all([make_record()], tmp_path / "my results", tmp_path / "r.md")
    assert "    quantbench report 'my results'\n" in (tmp_path / "r.md").read_text()
    assert str(tmp_path) not in (tmp_path / "r.md").read_text()
