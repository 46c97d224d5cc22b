"""One browser for a session, and pages of generated suites on disk."""

import chromium
import generated_suite
import pytest

from pytest_quantbench.report import html
from pytest_quantbench.report.charts import Charted


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium; tests are skipped where there is none."""
    if not (chromium.CHROMIUM and chromium.DRIVER):
        pytest.skip(chromium.WHY_NOT)
    pytest.importorskip("selenium", reason="selenium drives the browser")
    started = chromium.started(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


@pytest.fixture(scope="session")
def cells():
    """Two models × five recipes with their raw samples, the references among them."""
    found = generated_suite.cells(2, ("int8", "int4", "int3", "int2"), tokens=512, questions=60)
    return [Charted(record=record, arrays=arrays) for record, arrays in found]


@pytest.fixture(scope="session")
def report(cells, tmp_path_factory):
    """Their page, as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.page(cells, ["pytest benches -m int4"]), encoding="utf-8")
    return path


@pytest.fixture
def page(browser, report):
    """The overview on a desk's screen, light."""
    chromium.resized(browser, 1280)
    chromium.opened(browser, report)
    yield browser
    assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []
