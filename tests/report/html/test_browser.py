"""The page in a headless Chromium: cells' pages, charts, light and dark, narrow, by keyboard, without a network.

Nothing may be logged as an error, and nothing may be asked for that is not the file itself.
"""

import json

import pytest
from chromium import opened, press, resized, shown_rows, waited

from pytest_quantbench.report.html.typeset import typeset

CELL = "#cell h1"


def test_a_cell_has_a_page_from_which_one_comes_back(page):
    page.find_element("id", "find").send_keys("int3")
    page.find_element("css selector", "a[href='#cell=Llama-3.2-3B-Instruct-int3']").click()
    waited(page, f"document.querySelector('{CELL}')")
    assert page.find_element("css selector", CELL).text == "Llama-3.2-3B-Instruct int3"
    assert not page.find_element("id", "overview").is_displayed()
    press(page, "\ue00c")  # Escape
    waited(page, "document.getElementById('cell').hidden")
    assert shown_rows(page) == 2  # the filter is as it was


def test_arrows_step_through_the_cells_that_are_listed(page, report):
    opened(page, report, "find=int4&cell=Qwen2.5-1.5B-Instruct-int4")
    opened(page, report, "cell=Qwen2.5-1.5B-Instruct-int8")
    waited(page, f"document.querySelector('{CELL}')?.textContent.includes('int8')")
    press(page, "\ue014")  # right
    waited(page, f"document.querySelector('{CELL}')?.textContent.includes('int4')")
    press(page, "\ue012")  # left
    waited(page, f"document.querySelector('{CELL}')?.textContent.includes('int8')")


def test_a_cells_page_tells_every_field_of_its_record(page, report, cells):
    """Each number of the record is there, in its own words or in the JSON."""
    import msgspec

    record = next(each.record for each in cells if each.record.recipe == "int3")
    opened(page, report, f"cell={record.model_id}-int3")
    waited(page, f"document.querySelector('{CELL}')")
    assert json.loads(page.execute_script("return document.querySelector('.json').textContent")) == json.loads(
        msgspec.json.encode(record)
    )
    text = page.execute_script("return document.getElementById('at-figures').parentElement.textContent")
    for part in (record.compression, record.throughput, record.perplexity, record.weights):
        for field in part.__dataclass_fields__:
            value = getattr(part, field)
            if isinstance(value, str) and value:
                assert value in text, field
    assert "mean rate" in text
    assert "tokens/s" in text
    assert f"{record.perplexity.tokens} tokens" in text


def test_a_cells_page_shows_verdicts_samples_texts_and_questions(page, report, cells):
    record = next(each.record for each in cells if each.record.recipe == "int2")
    opened(page, report, f"cell={record.model_id}-int2")
    waited(page, f"document.querySelector('{CELL}')")
    sections = page.execute_script("return [...document.querySelectorAll('#cell h2')].map(each => each.textContent)")
    assert sections[:5] == [
        "Verdicts",
        "Questions it lost and won",
        "What it wrote",
        "Raw samples",
        "Weights, matrix by matrix",
    ]
    judged = page.execute_script("return [...document.querySelectorAll('.judged')].map(each => each.textContent)")
    assert len(judged) == len(record.verdicts)
    for verdict, told in zip(record.verdicts, judged, strict=True):
        assert typeset(verdict.sentence) in told
    lost = record.accuracy.tasks["arc_easy"].right_to_wrong
    assert lost > 0
    text = page.execute_script("return document.getElementById('at-questions').parentElement.textContent")
    assert f"{lost} were lost" in text
    assert "Loss of each token, minus the reference's" in page.find_element("id", "cell").text
    assert record.weights.worst_tensor.removeprefix("model.") in page.find_element("css selector", "#cell .key").text


def test_charts_are_drawn_when_they_come_into_view_and_again_in_the_dark(page, report):
    pytest.importorskip("altair")
    figures = page.execute_script("return document.querySelectorAll('figure.chart').length")
    assert figures > 0
    assert page.execute_script("return document.querySelectorAll('[data-drawn]').length") < figures
    for place in range(figures):
        figure = f"document.querySelectorAll('figure.chart')[{place}]"
        page.execute_script(f"{figure}.scrollIntoView()")
        waited(page, f"{figure}.querySelector('svg, canvas')")
    rows = "document.querySelectorAll('figure.chart')[0].querySelectorAll('.as-table tbody tr').length"
    page.execute_script("document.querySelector('.as-table').open = true")
    assert waited(page, rows) > 0
    page.execute_script("document.getElementById('theme').click()")
    assert page.execute_script("return document.documentElement.dataset.theme") == "dark"
    waited(page, "document.querySelector('figure.chart svg, figure.chart canvas')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_follows_the_system_and_the_switch(page, theme):
    resized(page, 1280, theme=theme)
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.execute_script(f"return {ground}")
    assert (sum(map(int, before[4:-1].split(","))) < 3 * 128) == (theme == "dark")
    page.find_element("id", "theme").click()
    after = page.execute_script(f"return {ground}")
    assert (sum(map(int, after[4:-1].split(","))) < 3 * 128) == (theme == "light")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(page, theme):
    """Contrast of at least 4.5 : 1 (WCAG 2.2, 1.4.3) for all colours that letters have."""
    resized(page, 1280, theme=theme)
    names = ["ink", "faint", "link", "pass", "fail", "undecided", "anomalous", "informational"]
    for ground in ("ground", "raised"):
        for name in names:
            pair = [colour(page, each) for each in (name, ground)]
            assert contrast(*pair) >= 4.5, (name, ground)


def colour(page, name):
    """(red, green, blue) of a colour of the style sheet, as the page shows it."""
    told = page.execute_script(
        "const one = document.createElement('i'); one.style.color = `var(--${arguments[0]})`;"
        "document.body.append(one); const found = getComputedStyle(one).color; one.remove(); return found",
        name,
    )
    return [int(part) for part in told[4:-1].split(",")]


def contrast(one, other):
    """WCAG's ratio of relative luminances."""

    def luminance(channels):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in channels)]
        return sum(share * value for share, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    "width", [320, 390, *(pytest.param(width, marks=pytest.mark.slow) for width in (768, 1241, 1280, 1920))]
)
def test_the_page_never_scrolls_sideways(page, report, width):
    for state in ("", "cell=Llama-3.2-3B-Instruct-int2"):
        resized(page, width)
        opened(page, report, state)
        if state:
            waited(page, f"document.querySelector('{CELL}')")
            page.execute_script("document.querySelectorAll('#cell details').forEach(each => each.open = true)")
        for place in range(page.execute_script("return document.querySelectorAll('figure.chart').length")):
            if not state:
                figure = f"document.querySelectorAll('figure.chart')[{place}]"
                page.execute_script(f"{figure}.scrollIntoView()")
                waited(page, f"{figure}.querySelector('svg, canvas')")
        assert page.execute_script("return document.documentElement.scrollWidth") <= width, state


def test_the_first_key_leads_to_the_cells(page):
    press(page, "\ue004", "\ue007")  # Tab, Enter
    assert page.execute_script("return document.activeElement.id") == "cells"
    press(page, "/")
    assert page.execute_script("return document.activeElement.id") == "find"


def test_nothing_is_asked_of_a_network(browser, report):
    """Of all that the browser requested while the overview, every chart and a cell were shown: the file alone."""
    browser.get_log("performance")
    resized(browser, 1280)
    opened(browser, report)
    for place in range(browser.execute_script("return document.querySelectorAll('figure.chart').length")):
        browser.execute_script(f"document.querySelectorAll('figure.chart')[{place}].scrollIntoView()")
        waited(browser, f"document.querySelectorAll('figure.chart')[{place}].querySelector('svg, canvas')")
    opened(browser, report, "cell=Llama-3.2-3B-Instruct-int2")
    waited(browser, f"document.querySelector('{CELL}')")
    messages = [json.loads(each["message"])["message"] for each in browser.get_log("performance")]
    asked = {
        m["params"]["request"]["url"].partition("#")[0] for m in messages if m["method"] == "Network.requestWillBeSent"
    }
    assert report.as_uri() in asked
    assert {url for url in asked if not url.startswith(("data:", "blob:", "about:"))} == {report.as_uri()}


def test_the_policy_stops_what_would_be_asked_for(page):
    """A picture, a script and a fetch of elsewhere, as something that was not escaped would have them."""
    blocked = page.execute_async_script(
        """const done = arguments[0], found = [];
        document.addEventListener("securitypolicyviolation", (event) => {
          found.push(event.effectiveDirective);
          if (found.length === 3) done(found.sort());
        });
        document.body.append(Object.assign(new Image(), { src: "https://example.invalid/a.png" }));
        document.body.append(Object.assign(document.createElement("script"), { textContent: "window.ran = 1" }));
        fetch("https://example.invalid/").catch(() => 0);"""
    )
    assert blocked == ["connect-src", "img-src", "script-src-elem"]
    assert page.execute_script("return window.ran") is None
    page.get_log("browser")  # which tells of the three
