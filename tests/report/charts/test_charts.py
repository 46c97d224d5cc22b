"""All charts alike: drawn of any cells, as specifications and as SVGs; and what is said where they cannot be."""

import importlib.util
import json
import time
from dataclasses import replace

import altair
import pytest
from builders import make_record

from pytest_quantbench.errors import DiskError
from pytest_quantbench.report import charts
from pytest_quantbench.report.charts import CHARTS, Charted, theme

MOST_SECONDS_DRAWN = 8

# of what most cells have: not of a quantized cache, nor of a sweep or loads, which are asked for
OF_WEIGHTS = [n for n in CHARTS if n not in ("depth", "retrieval", "loading") and not n.startswith("sweep")]


@pytest.mark.parametrize("name", OF_WEIGHTS)
@pytest.mark.parametrize("width", [760, None])
@pytest.mark.parametrize("models", ["one_model", pytest.param("three_models", marks=pytest.mark.slow)])
def test_a_chart_is_one_of_vega_lite(request, name, width, models):
    specification = CHARTS[name].draw(request.getfixturevalue(models), width)
    altair.Chart.from_dict(specification).to_dict()  # checks it against the schema
    assert json.loads(json.dumps(specification, allow_nan=False)) == specification


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_a_picture_says_what_it_shows_and_is_the_same_each_time(one_model, name):
    chart = CHARTS[name]
    first, second = (charts.svg(chart.draw(one_model)) for _ in range(2))
    assert first == second
    drawn = first.decode()
    assert drawn.startswith("<svg")
    assert f">{chart.title}<" in drawn
    assert "int4-gptq" in drawn or name == "looks"
    assert f'fill="{theme.PAPER}"' in drawn
    assert len(first) < 100_000


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_there_is_no_chart_of_nothing(name):
    assert CHARTS[name].draw([]) is None
    assert CHARTS[name].draw([Charted(record=make_record())]) is None
    bare = make_record(level="bf16", recipe="bf16", bits=16)
    assert CHARTS[name].draw([Charted(record=bare)]) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_cells_with_parts_missing_are_drawn_as_far_as_they_go(three_models, name):
    parts = ("throughput", "perplexity", "compression", "weights")
    holes = [
        Charted(
            record=replace(each.record, **{parts[place % 4]: None}) if place % 3 else each.record,
            arrays=each.arrays if place % 5 else {},
        )
        for place, each in enumerate(three_models)
    ]
    altair.Chart.from_dict(CHARTS[name].draw(holes)).to_dict()


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_colours_are_the_themes(one_model, name):
    drawn = {**CHARTS[name].draw(one_model), "datasets": {}}
    fixed = {"#d00000"}  # the frame of the worst matrix
    assert set(filter(lambda text: text.startswith("#"), strings(drawn))) <= fixed


def strings(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value] if isinstance(value, str) else [text for each in inner for text in strings(each)]


def test_a_page_gets_its_own_width_and_headings(one_model):
    single = CHARTS["pareto"].draw(one_model, None)
    assert single["width"] == "container"
    assert "title" not in single
    assert "dashed line is the noise floor" in CHARTS["kl_by_bits"].draw(one_model, None)["usermeta"]["notes"][0]
    several = CHARTS["looks"].draw(one_model, None)
    assert several["columns"] == 1
    assert all(panel["width"] <= 260 for panel in several["concat"])


@pytest.mark.slow
def test_all_charts_are_drawn_soon_for_a_picture_and_for_a_page(twelve_models):
    """In seconds of this process. Of more models than these the first are drawn, so a thousand cells take no longer."""
    began = time.process_time()
    drawn = [
        chart.draw(twelve_models, width)
        for chart in CHARTS.values()
        if chart.name in OF_WEIGHTS
        for width in (760, None)
    ]
    assert time.process_time() - began < MOST_SECONDS_DRAWN
    assert all(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_pictures_of_a_large_suite_stay_small_and_say_what_they_leave_out(twelve_models, name):
    specification = CHARTS[name].draw(twelve_models)
    assert "are shown." in " ".join(specification["title"]["subtitle"])
    assert len(charts.svg(specification)) < 400_000


def test_every_chart_is_written_as_a_file(one_model, tmp_path):
    paths = charts.write_svgs(one_model, tmp_path / "deep")
    assert [path.name for path in paths] == [f"{name}.svg" for name in OF_WEIGHTS]
    assert all(path.read_bytes().startswith(b"<svg") for path in paths)


def test_a_picture_that_cannot_be_written_is_named(one_model, tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(DiskError, match="file"):
        charts.write_svgs(one_model, tmp_path / "file")


def test_without_the_extra_one_sentence_says_so(monkeypatch):
    assert charts.missing() == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert charts.missing().startswith("Charts are left out: altair and vl-convert-python not installed")


@pytest.mark.parametrize("dark", [False, True])
def test_themes_are_configurations_of_vega_lite(dark):
    altair.Chart.from_dict({"data": {"values": []}, "mark": "point", "config": theme.config(dark=dark)}).to_dict()
    assert theme.config(dark=dark)["background"] == "transparent"
