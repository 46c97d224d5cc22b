"""Questions that someone brings to a report, answered by report.html alone, as a reader finds the answers."""

from dataclasses import replace

import generated_suite
import pytest
from chromium import opened, resized, waited

from pytest_quantbench.record.publication_schema import Cost
from pytest_quantbench.record.suite import worst
from pytest_quantbench.report.answers import answer
from pytest_quantbench.report.charts import Charted
from pytest_quantbench.report.html import page
from pytest_quantbench.report.html.how_sure import certainties, families
from pytest_quantbench.report.html.overview import smallest
from pytest_quantbench.report.html.typeset import typeset
from pytest_quantbench.stats.estimates import Interval

RATE = Interval(estimate=1.25, low=1.2, high=1.3)


@pytest.fixture(scope="module")
def found():
    """Cells of a few models at a price, one of them undecided."""
    cost = Cost(price_per_hour=3.6, currency="EUR", per_million_tokens=RATE, compression=0.41)
    cells = generated_suite.cells(4, ("int4", "int3", "int2"), tokens=1024, questions=100)
    return [(replace(record, cost=cost), arrays) for record, arrays in cells]


@pytest.fixture(scope="module")
def report(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("reader") / "report.html"
    cells = [Charted(record=record, arrays=arrays) for record, arrays in found]
    path.write_text(page(cells, ["pytest benches -m int3 -k Llama"]), encoding="utf-8")
    return path


def cell_page(browser, report, record):
    """What a cell's page says, everything unfolded."""
    resized(browser, 1280)
    opened(browser, report, f"cell={record.model_id}-{record.recipe}")
    waited(browser, "document.querySelector('#cell h1')")
    browser.execute_script("document.querySelectorAll('#cell details').forEach(each => each.open = true)")
    return browser.find_element("id", "cell").text


def overview(browser, report):
    resized(browser, 1280)
    opened(browser, report)
    return browser.find_element("id", "overview").text


def plain(text):
    """As the browser's driver tells it."""
    return text.replace("\u00a0", " ")


def test_the_questions(browser, report, found):
    records = [record for record, _ in found]
    mine = next(record for record in records if record.recipe == "int3")
    other = next(each for each in records if (said := answer(each)) and said.word == "undecided")
    verdict = worst(mine, "perplexity_delta")
    place = mine.verdicts.index(verdict)
    sure = certainties(mine, families(records)[mine.recipe])[place]
    small = smallest([Charted(record=record, arrays=arrays) for record, arrays in found])
    gaps = mine.throughput.gap_sec
    text = mine.perplexity
    first, told, open_ = overview(browser, report), *(cell_page(browser, report, each) for each in (mine, other))
    seconds = sum(
        part.time_sec or 0.0
        for record in records
        for part in (record.compression, record.throughput, record.perplexity, record.accuracy)
    )
    answered = {
        "may int3 of this model ship?": plain(typeset(answer(mine).sentence)) in told,
        "how sure is that?": f"{verdict.low:.3f}, {verdict.high:.3f}" in told
        and "at most 5 %" in first
        and plain(f"How sure: {sure.alone}") in told,
        "does it hold together with the others?": plain(sure.together) in told and "verdicts would have" in first,
        "which limits were these?": "< 2.5" in first and "≥ 75 %" in first,
        "was it judged by all criteria?": "2 of 4 criteria" in first,
        "which perplexity is which?": f"perplexity, all {text.tokens:,} tokens" in told and plain(sure.whole) in told,
        "which is the smallest that may ship, and does another beat it?": all(
            f"{each.model} {each.recipe} {each.size} {each.standing}" in first for each in small
        ),
        "how slow is the slowest 1 %?": f"{gaps['99'].estimate / gaps['50'].estimate:.3g} × the median" in told,
        "what was it calibrated on?": "Calibrated on c4" in first,
        "what does KL mean?": "Kullback–Leibler divergence" in first,
        "which layer is worst?": mine.weights.worst_tensor.removeprefix("model.") in told,
        "what did the run cost?": f"{seconds / 3600 * 3.6:,.2f} EUR" in first,
        "what does a million tokens cost?": "1.25 [1.2, 1.3] EUR" in told and "EUR/10⁶ tokens" in first,
        "what would settle the undecided one?": plain(typeset(answer(other).settled_by)) in open_,
        "how much smaller is it?": f"−{100 * (1 - mine.compression.ratio):.1f} %" in first,
        "which questions did it lose?": "Lost: right before, wrong now" in told or "0 were lost" in told,
        "which differences mean nothing?": "Noise floor" in first and "whose own interval holds 0" in first,
        "how do I repeat it?": "pytest benches -m int3 -k Llama" in first,
    }
    assert [question for question, is_answered in answered.items() if not is_answered] == []
    assert len(answered) == 18
