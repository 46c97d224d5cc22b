"""The page in a headless Chromium: sorted, filtered, opened, by mouse and by keyboard, narrow and dark, and in peace.

Nothing may be logged as an error, and nothing may be asked for that is not the file itself.
"""

import json

import pytest
from chromium import opened, resized, waited

LINES = "[...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden)"
NAMES = f"{LINES}.map(row => row.dataset.name)"
CELL = "#cell h1"


@pytest.fixture
def page(browser, report):
    """The overview on a desk's screen, light."""
    resized(browser, 1280)
    opened(browser, report)
    yield browser
    assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []


def shown(page):
    return page.execute_script(f"return {NAMES}")


def keys_of(page, column):
    """What a column's cells are sorted by, as they are shown; None where one is missing."""
    return page.execute_script(f"return {LINES}.map(row => row.querySelector('td.{column}').dataset.key ?? null)")


def press(page, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).send_keys(*keys).perform()


def header(page, column):
    return page.find_element("css selector", f"th[data-column={column}]")


def button(page, column):
    return header(page, column).find_element("css selector", "button")


@pytest.mark.parametrize("column", ["bits", "size", "rate", "speed", "perplexity", "kl", "drop", "snr"])
def test_a_column_of_numbers_is_sorted_both_ways_with_what_is_missing_last(page, column):
    came = shown(page)
    for direction, order in (("ascending", 1), ("descending", -1)):
        button(page, column).click()
        keys = keys_of(page, column)
        numbers = [float(key) for key in keys if key is not None]
        assert len(numbers) > 5
        assert keys[len(numbers) :] == [None] * (len(keys) - len(numbers))
        assert numbers == sorted(numbers, reverse=order < 0)
        assert header(page, column).get_attribute("aria-sort") == direction
    button(page, column).click()  # a third time: as the records came
    assert shown(page) == came


def test_a_column_of_texts_is_sorted_too(page):
    button(page, "verdict").click()
    keys = keys_of(page, "verdict")
    assert keys == sorted(keys)
    assert len(set(keys)) > 2


@pytest.mark.parametrize("key", ["\ue007", " "])  # Enter, Space
def test_columns_are_sorted_by_keyboard(page, key):
    page.execute_script("document.querySelector('th[data-column=kl] button').focus()")
    press(page, key)
    assert header(page, "kl").get_attribute("aria-sort") == "ascending"


def test_cells_are_filtered_by_text_level_model_and_verdict(page):
    everything = shown(page)
    assert len(everything) == 10
    page.find_element("id", "find").send_keys("qwen INT4")
    assert shown(page) == ["Qwen2.5-1.5B-Instruct-int4"]
    assert page.find_element("id", "shown").text == "1 of 10 shown"
    page.find_element("css selector", "#filters [type=reset]").click()
    assert shown(page) == everything
    for control, name in (("by-level", "level"), ("by-model", "model"), ("by-word", "word")):
        options = page.execute_script(f"return [...document.getElementById('{control}').options].map(o => o.text)")
        found = []
        for option in options[1:]:
            page.execute_script(
                f"const c = document.getElementById('{control}'); c.value = {json.dumps(option)};"
                "c.dispatchEvent(new Event('input'))"
            )
            one = page.execute_script(f"return {LINES}.map(row => row.dataset.{name})")
            assert set(one) <= {option}
            found += shown(page)
        assert sorted(found) == sorted(everything)
        page.find_element("css selector", "#filters [type=reset]").click()


def test_a_verdict_that_is_counted_is_a_filter(page):
    count = page.find_element("css selector", ".count.may-ship")
    count.click()
    assert len(shown(page)) == int(count.text.split()[0]) > 0
    assert count.get_attribute("aria-pressed") == "true"
    count.click()
    assert len(shown(page)) == 10


def test_an_address_shows_what_it_was_copied_from(page, report):
    button(page, "perplexity").click()
    button(page, "perplexity").click()
    page.find_element("id", "find").send_keys("int3")
    address, rows = page.current_url, shown(page)
    assert address.endswith("#sort=perplexity-&find=int3")
    page.get("about:blank")
    page.get(address)
    assert shown(page) == rows
    assert header(page, "perplexity").get_attribute("aria-sort") == "descending"


def test_an_address_with_what_there_is_not_shows_everything(page, report):
    opened(page, report, "sort=nonsense&other=1")
    assert len(shown(page)) == 10
    opened(page, report, "cell=No-such-cell")
    assert "There is no such cell in this report." in page.find_element("id", "cell").text


def test_a_cell_has_a_page_from_which_one_comes_back(page):
    page.find_element("id", "find").send_keys("int3")
    page.find_element("css selector", "a[href='#cell=Llama-3.2-3B-Instruct-int3']").click()
    waited(page, f"document.querySelector('{CELL}')")
    assert page.find_element("css selector", CELL).text == "Llama-3.2-3B-Instruct int3"
    assert not page.find_element("id", "overview").is_displayed()
    press(page, "\ue00c")  # Escape
    waited(page, "document.getElementById('cell').hidden")
    assert len(shown(page)) == 2  # the filter is as it was


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
        assert verdict.sentence in told
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


def test_rows_are_cards_where_it_is_narrow_and_can_still_be_sorted(page, report):
    resized(page, 390)
    opened(page, report)
    assert page.execute_script("return getComputedStyle(document.querySelector('#table tbody tr')).display") == "grid"
    page.execute_script(
        "const c = document.getElementById('by-column'); c.value = 'kl-'; c.dispatchEvent(new Event('change'))"
    )
    numbers = [float(key) for key in keys_of(page, "kl") if key is not None]
    assert numbers == sorted(numbers, reverse=True)


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
