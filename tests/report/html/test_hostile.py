"""Names, texts and notes of other people's models are shown as texts: nothing in them runs, in HTML or by script."""

from dataclasses import replace

import generated_suite
import numpy as np
import pytest
from chromium import opened, resized, waited

from pytest_quantbench.judge.change import Change
from pytest_quantbench.record.raw import as_bytes
from pytest_quantbench.report.charts import Charted
from pytest_quantbench.report.html import page

TEXTS = (
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    '" onmouseover="window.hacked = 1',
    "\u2028window.hacked = 1\u2029<!--<script>",
    "{{ 7 * 7 }} ${window.hacked = 1} javascript:window.hacked=1",
)
ALL = " ".join(TEXTS)
CHANGE = Change(
    metric="perplexity",
    of=ALL,
    word="regression",
    base=1.0,
    new=2.0,
    estimate=1.0,
    low=0.5,
    high=1.5,
    floor=0.0,
    items=9,
    p_worse=0.01,
    p_better=0.99,
    detectable=0.2,
    sentence=f"It got worse: {ALL}",
)


def hostile(record, arrays):
    """A cell with such texts wherever others may write some."""
    size, text = record.compression, record.perplexity
    changed = replace(
        record,
        model_id=TEXTS[0],
        source=ALL,
        compression=replace(size, kept={ALL: ALL}, notes={TEXTS[1]: ALL}, artifact=ALL),
        perplexity=replace(text, corpus=ALL, protocol=ALL),
        weights=record.weights and replace(record.weights, worst_tensor=ALL),
        machine=replace(record.machine, chip=ALL, versions={TEXTS[1]: ALL}),
        verdicts=tuple(replace(each, sentence=ALL, of=ALL, needed=ALL, baseline=(CHANGE,)) for each in record.verdicts),
        integrity=(ALL,),
        integrity_notes=(ALL,),
        tokenizer={"prefix": (ALL,)},
        recipe_parameters={TEXTS[1]: ALL},
    )
    count = len(arrays["accuracy/arc_easy/ids"])
    texts = {
        "accuracy/arc_easy/questions": as_bytes([ALL] * count),
        "accuracy/arc_easy/options": as_bytes([list(TEXTS[:4])] * count),
        "throughput/texts": as_bytes([ALL] * len(arrays["throughput/prompt"])),
        "throughput/prompts": as_bytes([ALL] * 5),
    }
    if "weights/names" in arrays:
        texts["weights/names"] = np.array([ALL] * len(arrays["weights/names"]))
    return Charted(record=changed, arrays=dict(arrays) | texts)


@pytest.fixture(scope="module")
def hostile_cells():
    found = generated_suite.cells(1, ("int4", "int2"), tokens=512, questions=60)
    return [hostile(record, arrays) for record, arrays in found]


def test_no_text_ends_an_element(hostile_cells):
    """What opens or closes an element in the HTML is the template's own."""
    harmless = [replace(each, record=replace(each.record, model_id="harmless")) for each in hostile_cells]
    text = page(hostile_cells, [ALL])
    assert text.count("<script") == page(harmless, []).count("<script")
    assert "<img" not in text
    assert "{{ 7 * 7 }}" in text
    assert not set("\u2028\u2029") & set(text.partition('id="labels"')[2])


def test_nothing_in_a_text_runs(browser, hostile_cells, tmp_path):
    """On the overview, with every chart drawn, and on a cell's page with everything unfolded."""
    path = tmp_path / "report.html"
    path.write_text(page(hostile_cells, [ALL]), encoding="utf-8")
    resized(browser, 390)
    opened(browser, path)
    charts = browser.execute_script("return document.querySelectorAll('figure.chart').length")
    for place in range(charts):
        browser.execute_script(f"document.querySelectorAll('figure.chart')[{place}].scrollIntoView()")
        waited(browser, f"document.querySelectorAll('figure.chart')[{place}].querySelector('svg, canvas')")
        browser.execute_script(f"document.querySelectorAll('.as-table')[{place}].open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script("return document.querySelectorAll('#overview img, #overview svg script').length") == 0
    browser.execute_script("document.querySelectorAll('td.model a')[2].click()")
    waited(browser, "document.querySelector('#cell h1')")
    browser.execute_script("document.querySelectorAll('#cell details').forEach(each => each.open = true)")
    told = browser.find_element("id", "cell").text
    assert TEXTS[0] in told
    assert TEXTS[4] in told
    assert "regression: It got worse: </script>" in told
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script("return document.querySelectorAll('#cell img, #cell script').length") == 0
    assert browser.execute_script("return window.hacked") is None
    assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []
