"""Charts as a browser draws them: names by their points at any width, legends with their colours, notes, tables."""

import math

import generated_suite
import pytest
from chromium import opened, resized, waited

from pytest_quantbench.report.charts import CHARTS, Charted, naming
from pytest_quantbench.report.html import page as page_of

pytest.importorskip("altair")
pytestmark = pytest.mark.slow
NAMED = ("pareto", "perplexity_by_bits", "kl_by_bits", "speed")
# Of a chart: how wide its first panel is, and every point and every name that is shown, with what it is of and its box.
DRAWN = """
    const told = (each) => {
        const { model, name, ...rest } = each.__data__.datum;
        const led = ["end_x", "wide_end_x"].map((end) => end in rest);
        return { of: `${model} ${name}`, model, led, box: each.getBoundingClientRect().toJSON() };
    };
    const all = (css) => [...arguments[0].querySelectorAll(css)];
    return {
        width: arguments[0].querySelector(".root path.background").getBoundingClientRect().width,
        points: all(".mark-symbol.role-mark path").map(told),
        names: all(".mark-text.role-mark text").filter((each) => each.textContent).map(told),
    };
"""


@pytest.fixture(scope="module")
def one_model(tmp_path_factory):
    """The page of eight recipes of one model, whose charts are as wide as the page."""
    path = tmp_path_factory.mktemp("one") / "report.html"
    cells = [Charted(record=record, arrays=arrays) for record, arrays in generated_suite.cells(1, tokens=512)]
    path.write_text(page_of(cells, []), encoding="utf-8")
    return path


def drawn(page, name):
    """A chart's figure, when it is drawn."""
    figure = page.find_element("css selector", f"figure[data-chart={name}]")
    page.execute_script("arguments[0].scrollIntoView()", figure)
    waited(page, f"document.querySelector('figure[data-chart={name}][data-drawn] svg')")
    return figure


def far(box, point):
    """How far a point's middle is from a box."""
    x, y = (point["left"] + point["right"]) / 2, (point["top"] + point["bottom"]) / 2
    return math.dist((x, y), (min(max(x, box["left"]), box["right"]), min(max(y, box["top"]), box["bottom"])))


@pytest.mark.parametrize("width", [360, 620, 1000, 1600])
@pytest.mark.parametrize("models", [1, 2])
def test_names_are_nearest_to_their_own_points(page, report, one_model, models, width):
    resized(page, width)
    opened(page, one_model if models == 1 else report)
    for name in NAMED if models == 1 else ("pareto", "speed"):
        found = page.execute_script(DRAWN, drawn(page, name))
        wide = models == 1 and found["width"] >= naming.WIDE
        assert found["names"]
        for label in found["names"]:
            panel = [point for point in found["points"] if point["model"] == label["model"]]
            (own,) = [far(label["box"], point["box"]) for point in panel if point["of"] == label["of"]]
            others = [far(label["box"], point["box"]) for point in panel if point["of"] != label["of"]]
            assert label["led"][wide] or own < min(others), label


def test_a_legends_colours_are_there_whatever_stands_in_the_address(page, report):
    opened(page, report, "")
    reference = "return getComputedStyle(arguments[0].querySelector('.role-legend-gradient path')).fill"
    filled = page.execute_script(reference, drawn(page, "snr_map"))
    address = page.execute_script("return location.href.split('#')[0]")
    assert filled in (f'url("{address}#{filled[5:-2].rpartition("#")[2]}")', f'url("#{filled.rpartition("#")[2]}')
    assert page.execute_script(f"return document.getElementById('{filled[5:-2].rpartition('#')[2]}') !== null")


def test_notes_stand_above_their_chart_once(page, report):
    opened(page, report)
    assert "Of each layer its worst matrix." in drawn(page, "snr_map").text
    page.find_element("id", "theme").click()
    waited(page, "document.querySelector('figure[data-chart=snr_map] svg')")
    assert drawn(page, "snr_map").text.count("Of each layer its worst matrix.") == 1


@pytest.mark.parametrize("name", ["pareto", "speed", "latency", "snr_map"])
def test_a_charts_table_names_models_and_recipes(page, report, cells, name):
    opened(page, report)
    figure = drawn(page, name)
    page.execute_script("arguments[0].querySelector('.as-table').open = true", figure)
    waited(page, f"document.querySelector('figure[data-chart={name}] .as-table tbody tr')")
    tables = figure.find_elements("css selector", ".as-table table")
    assert len(tables) == 1
    titles = [each.text for each in tables[0].find_elements("css selector", "th")]
    expected = CHARTS[name].draw(cells, None)["usermeta"]["table"]
    assert titles == expected["columns"]
    rows = [
        [each.text for each in row.find_elements("css selector", "td")]
        for row in tables[0].find_elements("css selector", "tbody tr")[:8]
    ]
    assert [row[:2] for row in rows] == [row[:2] for row in expected["rows"][:8]]
