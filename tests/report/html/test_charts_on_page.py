"""Charts on the page: what is shown under the pointer, and what is printed."""

import pytest
from chromium import opened, resized, waited

pytest.importorskip("altair")
pytestmark = pytest.mark.slow
FIGURES = "document.querySelectorAll('figure.chart').length"
DRAWN = "document.querySelectorAll('figure.chart[data-drawn]').length"
SHEET = "getComputedStyle(document.getElementById('vg-tooltip-element'))"


def pointed(browser, report, theme):
    """The overview with the pointer on the first chart's first point."""
    from selenium.webdriver.common.action_chains import ActionChains

    resized(browser, 1280, theme=theme)
    opened(browser, report)
    browser.execute_script("document.querySelector('figure.chart').scrollIntoView()")
    waited(browser, "document.querySelector('figure.chart svg .mark-symbol path')")
    point = browser.find_element("css selector", "figure.chart svg .mark-symbol path")
    ActionChains(browser).move_to_element(point).perform()
    waited(browser, "document.querySelector('#vg-tooltip-element.visible td')")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_the_pointer_shows_is_small_and_in_the_pages_colours(browser, report, theme):
    pointed(browser, report, theme)
    height, rows, ground, ink, page = browser.execute_script(
        "const one = document.getElementById('vg-tooltip-element');"
        f"return [one.getBoundingClientRect().height, one.querySelectorAll('tr').length, {SHEET}.backgroundColor,"
        f"{SHEET}.color, getComputedStyle(document.body).backgroundColor]"
    )
    assert ground == page != ink
    assert height < 40 + 30 * rows
    assert (
        browser.execute_script("return getComputedStyle(document.querySelector('#vg-tooltip-element td.key')).display")
        == "table-cell"
    )


def test_printing_draws_every_chart_in_light_colours_first(browser, report):
    """By the page's button; when the dialog is closed the colours are the page's again."""
    resized(browser, 1280, theme="dark")
    opened(browser, report)
    count = browser.execute_script(f"return {FIGURES}")
    assert browser.execute_script(f"return {DRAWN}") < count
    browser.execute_script(
        "window.print = () => { window.printed = [...document.querySelectorAll('figure.chart')]"
        ".map(each => each.dataset.drawn); }; document.getElementById('print').click()"
    )
    assert waited(browser, "window.printed") == ["light"] * count
    waited(browser, f"document.querySelectorAll('figure.chart[data-drawn=dark]').length === {count}")


def test_on_paper_the_page_is_light_and_no_wider_than_the_paper(browser, report):
    resized(browser, 1040, theme="dark")
    opened(browser, report)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    try:
        ground, wide, heads = browser.execute_script(
            "return [getComputedStyle(document.body).backgroundColor, document.documentElement.scrollWidth,"
            "[...document.querySelectorAll('#table thead th')].map(each => getComputedStyle(each, '::after').content)]"
        )
        assert min(map(int, ground[4:-1].split(","))) > 200
        assert wide <= 1040
        assert '"Size, GB"' in heads  # a table's head is repeated on each page without its buttons
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
