import pytest

from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.criteria import METRICS, Overrides, limit_for
from pytest_quantbench.catalog.recipes import LEVELS, recipe, recipe_of_candidate

PPL, DROP = "perplexity_delta", "accuracy_drop_points"
Q4 = recipe_of_candidate(Candidate(name="q4", source="q4.gguf"), 4.8)


@pytest.mark.parametrize("level", LEVELS)
def test_limits_are_the_most_specific_ones(level):
    base = limit_for(PPL, "M", recipe(level), Overrides())
    assert base == {"int4": 1.0, "int3": 2.5, "int2": 8.0}.get(level)
    overrides = Overrides(selected={level: {PPL: 3}, "M": {PPL: 2.0}, f"M-{level}": {PPL: 0.5}})
    assert limit_for(PPL, "M", recipe(level), overrides) == 0.5
    assert limit_for(PPL, "N", recipe(level), overrides) == 3.0
    if level != "bf16":
        assert limit_for(PPL, "M", recipe(f"{level}-rtn"), overrides) == 2.0
    silenced = Overrides(selected={"M": {PPL: "informational"}})
    assert limit_for(PPL, "M", recipe(level), silenced) is None


def test_what_is_said_of_candidates_overrules_selectors_and_what_is_said_of_the_session_overrules_all():
    """Level, recipe, model, cell, all candidates, one candidate, option: each is the limit until a later one is."""
    layers = [
        ("selected", {"int4": {PPL: 2.0}}),
        ("selected", {"q4": {PPL: 3.0}}),
        ("selected", {"M": {PPL: 4.0}}),
        ("selected", {"M-q4": {PPL: 5.0}}),
        ("candidates", {PPL: 6.0}),
        ("candidate", {"q4": {PPL: 7.0}}),
        ("session", {PPL: 8.0}),
    ]
    given = {"selected": {}, "candidates": {}, "candidate": {}, "session": {}}
    found = [limit_for(PPL, "M", Q4, Overrides())]
    for place, limits in layers:
        given[place] = given[place] | limits
        found.append(limit_for(PPL, "M", Q4, Overrides(**given)))
    assert found == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_what_is_said_of_candidates_is_not_said_of_recipes():
    overrides = Overrides(candidates={PPL: 6.0}, candidate={"int4": {PPL: 7.0}})
    assert limit_for(PPL, "M", recipe("int4"), overrides) == 1.0


def test_a_limit_overrules_that_of_its_metric_alone():
    overrides = Overrides(candidates={PPL: "informational"}, session={DROP: 2.0})
    assert [limit_for(metric, "M", Q4, overrides) for metric in METRICS] == [70.0, None, 2.0, 1.5]


def test_a_level_without_limits_is_judged_where_some_are_given():
    int8 = recipe_of_candidate(Candidate(name="q8", source="q8.gguf"), 8.5)
    assert limit_for(PPL, "M", int8, Overrides()) is None
    assert limit_for(PPL, "M", int8, Overrides(session={PPL: 0.5})) == 0.5
