"""Loads as a table and as a chart: cold and warm apart, stage by stage, with what was left out and why."""

from dataclasses import replace

import altair
import pytest
from builders import make_record
from record.test_load_summary import one, samples

from pytest_quantbench.measures.load.samples import STAGES
from pytest_quantbench.record.load_summary import load
from pytest_quantbench.report.charts import CHARTS, Charted
from pytest_quantbench.report.markdown import loading, markdown
from pytest_quantbench.report.markdown.loading import COLUMNS


def cells(text):
    """The rows of the table, without its head, by column."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text if line.startswith("| ")]
    assert rows[0] == list(COLUMNS)
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]


def reference(**changes):
    """BF16's record, which has no ratio."""
    bare = make_record(recipe="bf16", level="bf16", bits=16)
    return replace(bare, load=load(samples(reference_loads=(), reference_loader="", **changes)))


def recipe(**changes):
    return make_record(load=load(samples(**changes)))


def test_each_cell_has_a_row_for_loads_from_disk_and_one_for_loads_from_memory():
    rows = cells(loading.section([reference(), recipe()]))
    kinds = [(row["Cell"].split()[0], row["Files were"]) for row in rows]
    assert kinds == [
        ("Tiny-bf16", "on disk"),
        ("Tiny-bf16", "in memory"),
        ("Tiny-int4", "on disk"),
        ("Tiny-int4", "in memory"),
    ]
    cold, warm = rows[2:]
    assert cold["First token, s"].split("\u00a0") == ["9.35", "±", "0.85"]
    assert (cold["Least, most"], cold["Loads"]) == ("8.50, 10.2", "3")
    assert [warm[name] for name in ("Start, s", "Opening", "Tokenizer", "Weights", "First token")] == [
        "1.1",
        "0.55",
        "0.27",
        "2.2",
        "0.55",
    ]
    assert warm["Files, GB"] == "3.00"
    assert warm["Peak"] == "2.00"
    assert warm["By"] == "a"
    assert (rows[0]["× BF16"], rows[1]["× BF16"]) == ("–", "–")
    assert cold["× BF16"].startswith("0.25")
    assert warm["× BF16"] == "0.50 [0.49,\u00a00.50]"


def test_how_pages_were_given_back_stands_above_and_why_there_are_no_loads_below():
    assert any("given back by posix_fadvise." in line for line in loading.section([recipe()]))
    both = loading.section([recipe(), reference(cold_by="drop_caches")])
    assert any("given back by posix_fadvise or drop_caches." in line for line in both)
    warm = tuple(each for each in samples().loads if not each.cold)
    lines = loading.section([recipe(loads=warm, cold_by="", cold_lacks="Nothing is dropped.")])
    assert "- Tiny-int4: Nothing is dropped." in lines
    assert not any("given back" in line for line in lines)
    assert [row["Files were"] for row in cells(lines)] == ["in memory"]


def test_a_runtime_without_a_stage_leaves_its_column_empty():
    few = {"start": 1.0, "weights": 2.0, "first token": 0.5}
    loads = tuple(replace(each, seconds=few) for each in samples().loads if not each.cold)
    (row,) = cells(loading.section([recipe(loads=loads)]))
    assert (row["Opening"], row["Tokenizer"], row["Weights"]) == ("–", "–", "2.0")


def test_one_load_has_no_deviation_and_no_ratio():
    single = {"loads": (one(0, False, 1),), "reference_loads": (one(0, False, 2),)}
    (row,) = cells(loading.section([recipe(**single)]))
    assert (row["First token, s"], row["× BF16"], row["Loads"]) == ("4.25", "–", "1")


def test_cells_without_any_load_that_counts_are_told_without_a_table():
    stayed = tuple(one(n, True, 1, share=0.4) for n in range(2))
    lines = loading.section([recipe(loads=stayed, reference_loads=())])
    assert not [line for line in lines if line.startswith("|")]
    assert "- Tiny-int4: 40% of the files stayed in memory: another process has them mapped or reads them." in lines


def test_the_section_is_in_the_report_where_something_was_loaded():
    text = "\n".join(loading.section([recipe()]))
    assert text in markdown([recipe()], ["quantbench run"])
    assert loading.section([make_record()]) == []


@pytest.mark.parametrize("width", [760, None])
def test_bars_are_the_stages_and_strokes_reach_from_the_fastest_load_to_the_slowest(rows_with, width):
    specification = drawn([reference(), recipe()], width)
    altair.Chart.from_dict(specification).to_dict()
    parts = rows_with(specification, "bar", "stage", "seconds")
    bars = ["bf16, on disk", "bf16, in memory", "int4, on disk", "int4, in memory"]
    assert list(dict.fromkeys(row["bar"] for row in parts)) == bars
    assert [row["stage"] for row in parts] == list(STAGES) * 4
    assert sum(row["seconds"] for row in parts if row["bar"] == "int4, in memory") == pytest.approx(4.25 * 1.1)
    (stroke,) = [row for row in rows_with(specification, "least", "most") if row["bar"] == "int4, on disk"]
    assert (stroke["least"], stroke["most"]) == pytest.approx((8.5, 10.2))
    table = specification["usermeta"]["table"]
    assert table["columns"][:2] == ["model", "recipe"]
    (row,) = [dict(zip(table["columns"], each, strict=True)) for each in table["rows"] if each[1] == "int4"]
    assert row["in memory, s"] == "4.675 (4.25 to 5.1)"
    assert row["on disk, × BF16"].startswith("0.2479")


def test_kinds_without_loads_have_no_bar(rows_with):
    warm = tuple(each for each in samples().loads if not each.cold)
    only = recipe(loads=warm, cold_lacks="None.")
    assert {row["bar"] for row in rows_with(drawn([only]), "bar", "stage")} == {"int4, in memory"}
    stayed = tuple(one(n, True, 1, share=0.4) for n in range(2))
    assert drawn([recipe(loads=stayed, reference_loads=()), make_record()]) is None


def test_each_model_has_a_panel(rows_with):
    other = replace(recipe(), model_id="Other")
    specification = drawn([recipe(), other])
    assert len(rows_with(specification, "bar", "least")) == 4
    assert "Other" in str(specification)


def drawn(records, width=760):
    return CHARTS["loading"].draw([Charted(record=record) for record in records], width)


@pytest.fixture
def rows_with():
    """All rows of a specification's data that have these fields."""

    def rows(specification, *names):
        every = [row for rows in specification["datasets"].values() for row in rows]
        return [row for row in every if all(name in row for name in names)]

    return rows
