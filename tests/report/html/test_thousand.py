"""A thousand cells with raw samples: how long their page takes to make and to open, and how large it is."""

import time
from dataclasses import replace

import generated_suite
import pytest
from chromium import opened, resized

from pytest_quantbench.report import charts
from pytest_quantbench.report.charts import Charted
from pytest_quantbench.report.html import page

pytestmark = pytest.mark.slow
CELLS = 1000
MOST_BYTES = 40e6
# In seconds of this process, so that what else the machine does counts little. Charts have a test of their own.
MOST_SECONDS_MADE = 6
MOST_SECONDS_OPEN = 2
MOST_SECONDS_SORTED = 1


@pytest.fixture(scope="module")
def many():
    """The cells of a few models, under a thousand names."""
    found = generated_suite.cells(4, ("int8", "int4", "int3", "int2"))
    named = [
        Charted(record=replace(record, model_id=f"{record.model_id}-{copy}"), arrays=arrays)
        for copy in range(CELLS // len(found))
        for record, arrays in found
    ]
    assert len(named) == CELLS
    return named


@pytest.fixture(scope="module")
def made(many, tmp_path_factory):
    """The page, without charts, and how long it took."""
    path = tmp_path_factory.mktemp("thousand") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "CHARTS", {})
        began = time.process_time()
        text = page(many, [])
        seconds = time.process_time() - began
    path.write_text(text, encoding="utf-8")
    return path, seconds


def test_it_is_made_soon_and_is_not_too_large(made):
    path, seconds = made
    assert path.stat().st_size < MOST_BYTES
    assert seconds < MOST_SECONDS_MADE


def test_it_opens_soon_and_is_sorted_at_once(browser, made):
    path, _ = made
    resized(browser, 1280)
    loads, sorts = [], []
    for _ in range(3):
        opened(browser, path)
        loads.append(browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"))
        sorts.append(
            browser.execute_script(
                "const began = performance.now(); document.querySelector('th[data-column=kl] button').click();"
                "document.body.offsetHeight; return (performance.now() - began) / 1000"
            )
        )
    assert browser.execute_script("return document.querySelectorAll('#table tbody tr').length") == CELLS
    assert min(loads) < MOST_SECONDS_OPEN, loads
    assert min(sorts) < MOST_SECONDS_SORTED, sorts


def test_the_first_rows_are_shown_until_all_are_asked_for(browser, made):
    path, _ = made
    resized(browser, 1280)
    opened(browser, path)
    shown = "[...document.querySelectorAll('#table tbody tr')].filter(row => !row.hidden).length"
    assert browser.execute_script(f"return {shown}") == 200
    assert browser.find_element("id", "shown").text == "200 of 1,000 shown"
    browser.execute_script("document.getElementById('more').click()")
    assert browser.execute_script(f"return {shown}") == CELLS
    assert browser.find_element("id", "shown").text == "all 1,000 shown"
