"""A cell's page in a headless Chromium: how sure it is, intervals against limits, tables that are not cut, names."""

import re

import generated_suite
import pytest
from chromium import opened, resized, waited

from pytest_quantbench.report.charts import Charted
from pytest_quantbench.report.html import page as made
from pytest_quantbench.report.html.how_sure import certainties, families


@pytest.fixture(scope="module")
def several():
    found = generated_suite.cells(4, ("int4", "int3", "int2"), tokens=1024, questions=100)
    return [Charted(record=record, arrays=arrays) for record, arrays in found]


@pytest.fixture(scope="module")
def path(several, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "report.html"
    path.write_text(made(several, []), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undecided(several):
    """A cell with a verdict that is undecided after several looks."""
    return next(
        cell.record
        for cell in several
        if any(each.outcome == "undecided" and len(each.looks) > 1 for each in cell.record.verdicts)
    )


def shown(browser, path, record, width=1280):
    resized(browser, width)
    opened(browser, path, f"cell={record.model_id}-{record.recipe}")
    waited(browser, "document.querySelector('#cell h1')")
    browser.execute_script("document.querySelectorAll('#cell details').forEach(each => each.open = true)")
    return browser


def test_each_verdict_says_how_sure_it_is_and_how_it_stands_over_all_items(browser, path, several):
    records = [cell.record for cell in several]
    record = next(
        each for each in records if any(sure.whole for sure in certainties(each, families(records)[each.recipe]))
    )
    shown(browser, path, record)
    told = browser.execute_script("return [...document.querySelectorAll('.judged')].map(each => each.textContent)")
    for sure, text in zip(certainties(record, families(records)[record.recipe]), told, strict=True):
        for sentence in (sure.alone, sure.together, sure.whole):
            assert sentence in text
    assert "p of good" not in " ".join(told)
    box = browser.find_element("css selector", "#cell .key").text
    assert f"perplexity, all {record.perplexity.tokens:,} tokens" in box


def test_both_ends_of_an_interval_are_in_the_picture(browser, path, several):
    """Of each verdict that has two ends: no arrow, however wide it is beside its distance from the limit."""
    for record in (cell.record for cell in several if cell.record.recipe == "int3"):
        shown(browser, path, record)
        arrows = browser.execute_script(
            "return [...document.querySelectorAll('.judged')].map(each =>"
            "each.querySelector(':scope > svg.intervals')?.querySelectorAll('.beyond').length ?? 0)"
        )
        ends = [None not in (each.low, each.high) for each in record.verdicts]
        assert [count for count, known in zip(arrows, ends, strict=True) if known] == [0] * sum(ends)


@pytest.mark.parametrize("width", [1280, 320])
def test_tables_of_looks_are_not_cut(browser, path, undecided, width):
    shown(browser, path, undecided, width)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.judged .box')].map(each => [each.scrollWidth, each.clientWidth])"
    )
    assert boxes
    assert [each for each in boxes if each[0] > each[1]] == []


def test_the_worst_matrix_is_in_view_where_the_map_is_wider_than_the_window(browser, path, several):
    shown(browser, path, several[1].record, 320)
    opened(browser, path, f"cell={several[1].record.model_id}-{several[1].record.recipe}")
    waited(browser, "document.querySelector('[data-worst]')")
    worst, box, text = browser.execute_script(
        "const one = document.querySelector('[data-worst]');"
        "const sides = (each) => [each.getBoundingClientRect().left, each.getBoundingClientRect().right];"
        "return [sides(one), sides(one.closest('.box')), one.textContent]"
    )
    assert box[0] <= worst[0]
    assert worst[1] <= box[1]
    assert float(text) == pytest.approx(several[1].record.weights.worst_snr_db, abs=0.051)


def test_what_each_model_chose_is_marked_beside_the_right_answer(browser, path, several):
    """Of each question lost: the reference chose the right option, this cell another."""
    record = next(
        each.record
        for each in several
        if each.record.recipe == "int2" and each.record.accuracy.tasks["arc_easy"].right_to_wrong
    )
    shown(browser, path, record)
    chosen = browser.execute_script(
        "return [...document.querySelector('.flipped').querySelectorAll('table')].map(one =>"
        "[...one.tBodies[0].rows].map(row => [...row.cells].slice(1).map(cell => cell.textContent)))"
    )
    assert len(chosen) == record.accuracy.tasks["arc_easy"].right_to_wrong
    for options in chosen:
        (right,) = [place for place, option in enumerate(options) if option[0]]
        mine, reference = ([place for place, option in enumerate(options) if "chosen" in option[of]] for of in (1, 2))
        assert reference == [right]
        assert len(mine) == 1
        assert mine != reference


def test_the_noise_floor_is_one_step_away(browser, path, several):
    record = several[1].record
    shown(browser, path, record)
    link = browser.find_element("link text", "it is the reference's")
    assert link.get_attribute("href").endswith(f"#cell={record.model_id}-bf16")


def test_times_between_tokens_are_in_the_charts_unit(browser, path, several):
    record = several[1].record
    gaps = record.throughput.gap_sec
    text = shown(browser, path, record).find_element("id", "cell").text
    assert f"{gaps['99'].estimate / gaps['50'].estimate:.3g} × the median, {1000 * gaps['99'].estimate:.3g} ms" in text
    assert re.search(rf"99 %\s+{1000 * gaps['99'].estimate:.4g}", text)


def test_names_of_figures_are_not_told_twice_in_one_part(browser, path, several):
    shown(browser, path, several[1].record)
    for heading in browser.execute_script(
        "return [...document.querySelectorAll('.figures')].map(each => {"
        "  const parts = [[]];"
        "  each.querySelectorAll('tr').forEach(row => row.className === 'part' ? parts.push([]) :"
        "    parts.at(-1).push(row.querySelector('th').textContent));"
        "  return parts; }).flat()"
    ):
        assert len(heading) == len(set(heading)), heading
