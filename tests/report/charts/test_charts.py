"""All charts alike: drawn of any cells, as specifications and as SVGs; and what is said where they cannot be."""

import importlib.util

import pytest
from builders import make_record
from generated_suite import cells as generated

from pytest_quantbench.errors import DiskError
from pytest_quantbench.report import charts
from pytest_quantbench.report.charts import CHARTS, Charted


def charted(models=1, recipes=("int8", "int4", "int2"), **sizes):
    return [Charted(record=record, arrays=arrays) for record, arrays in generated(models, recipes, **sizes)]


@pytest.fixture(scope="module")
def cells():
    return charted()


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_says_what_it_shows(cells, name):
    chart = CHARTS[name]
    drawn = charts.svg(chart.draw(cells)).decode()
    assert drawn.startswith("<svg")
    assert chart.title in drawn


@pytest.mark.parametrize("name", CHARTS)
def test_the_same_records_give_the_same_bytes(cells, name):
    first, second = (charts.svg(CHARTS[name].draw(cells)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", CHARTS)
def test_there_is_no_chart_of_nothing(name):
    assert CHARTS[name].draw([]) is None
    assert CHARTS[name].draw([Charted(record=make_record())]) is None


def test_every_chart_is_written_as_a_file(cells, tmp_path):
    paths = charts.write_svgs(cells, tmp_path / "deep")
    assert [path.name for path in paths] == [f"{name}.svg" for name in CHARTS]
    assert all(path.read_bytes().startswith(b"<svg") for path in paths)


def test_a_picture_that_cannot_be_written_is_named(cells, tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(DiskError, match="file"):
        charts.write_svgs(cells, tmp_path / "file")


def test_without_the_extra_one_sentence_says_so(monkeypatch):
    assert charts.missing() == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert charts.missing().startswith("Charts are left out: altair and vl-convert-python not installed")
