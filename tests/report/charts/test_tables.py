"""The table that says the same as a chart: readable columns, rows with model and recipe; and what tooltips name."""

import re

import pytest
from report.charts.test_charts import OF_WEIGHTS

from pytest_quantbench.record import fronts
from pytest_quantbench.report.charts import CHARTS, limits, theme, wording


def table_of(specification):
    return specification["usermeta"]["table"]


def rows_of(specification):
    table = table_of(specification)
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_a_table_names_the_model_and_the_recipe_of_each_row(three_models, name):
    table = table_of(CHARTS[name].draw(three_models, None))
    assert table["columns"][:2] == ["model", "recipe"]
    cells = {(cell.record.model_id, cell.record.recipe) for cell in three_models}
    assert table["rows"]
    assert {(row[0], row[1]) for row in table["rows"]} <= cells
    assert all(isinstance(text, str) for row in table["rows"] for text in row)


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_nothing_of_how_a_chart_is_drawn_stands_in_its_table(three_models, name):
    columns = table_of(CHARTS[name].draw(three_models, None))["columns"]
    assert len(set(columns)) == len(columns) <= 9
    inner = re.compile(r"_|^(x|y|dx|dy|align|group|label|at|begin|end|line|worst|column|beyond)$")
    assert not [column for column in columns if inner.search(column)]


def test_the_fronts_table_has_each_cells_figures_standing_and_limits(one_model):
    rows = {row["recipe"]: row for row in rows_of(CHARTS["pareto"].draw(one_model))}
    placed = {each.record.recipe: each for each in fronts.front([(c.record, c.arrays) for c in one_model])}
    assert rows.keys() == placed.keys()
    for recipe, each in placed.items():
        row = rows[recipe]
        assert row["size, GB"] == wording.number(each.cost.estimate)
        assert row["ΔPPL"] == wording.interval(each.loss)
        assert row["standing"].partition(", by ")[0] == each.word
        limit = limits.of(each.record, "perplexity_delta")
        assert row["limit of ΔPPL"] == (f"below {limit[0]:g}" if limit else "")


def test_the_table_of_looks_has_every_look_that_is_shown(one_model):
    looked = [
        (cell.record, verdict)
        for cell in one_model
        for verdict in cell.record.verdicts
        if len(verdict.looks) > 1 and any(look.estimate is not None for look in verdict.looks)
    ]
    assert len(looked) <= 12
    rows = rows_of(CHARTS["looks"].draw(one_model))
    assert len(rows) == sum(len(verdict.looks) for _, verdict in looked)
    assert {row["recipe"] for row in rows} == {record.recipe for record, _ in looked}


def tooltips(value):
    """The fields of every tooltip that tells more than one thing."""
    if isinstance(value, dict):
        own = value.get("tooltip")
        found = [[each["field"] for each in own]] if isinstance(own, list) else []
        return found + [each for part in value.values() for each in tooltips(part)]
    return [each for part in value for each in tooltips(part)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_tooltips_name_the_model(three_models, rows_with, name):
    specification = CHARTS[name].draw(three_models, None)
    found = tooltips({**specification, "datasets": {}})
    assert found
    assert all("model" in fields for fields in found)
    models = {cell.record.model_id for cell in three_models}
    assert {row["model"] for row in rows_with(specification, "model")} <= models


@pytest.mark.parametrize("dark", [False, True])
def test_outcomes_and_standings_have_colours_of_their_own(three_models, dark):
    ranges = theme.config(dark=dark)["range"]
    assert not set(ranges["ordinal"]) & set(ranges["ramp"])
    drawn = {name: str(CHARTS[name].draw(three_models)) for name in ("looks", "pareto")}
    assert "'range': 'ordinal'" in drawn["looks"]
    assert "'range': 'ramp'" in drawn["pareto"]


def test_points_without_room_for_their_names_are_named_below_the_title(three_models):
    specification = CHARTS["pareto"].draw(three_models)
    rows = [row for rows in specification["datasets"].values() for row in rows if "standing" in row]
    unnamed = [f"{row['model']} {row['name']}" for row in rows if "label" not in row]
    notes = [note for note in specification["usermeta"]["notes"] if note.startswith("No room for the names of ")]
    assert notes == ([f"No room for the names of {', '.join(unnamed)}."] if unnamed else [])
