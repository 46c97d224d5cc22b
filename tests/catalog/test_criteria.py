import pytest

from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.criteria import METRICS, Overrides, limit_for, limited
from pytest_quantbench.catalog.recipes import LEVELS, REFERENCE, recipe, recipe_of_candidate

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
    assert [limit_for(metric, "M", Q4, overrides) for metric in METRICS] == [70.0, None, 2.0, 1.5, None, 5.0]


def test_a_limit_of_depth_itself_goes_before_any_of_perplexity():
    depth, kv8 = "depth_perplexity_delta", recipe("kv8")
    own = {"kv": {depth: 0.1}}
    for others in ({"selected": own | {"M": {PPL: 2.0}}}, {"selected": own, "session": {PPL: 0.5}}):
        assert limit_for(depth, "M", kv8, Overrides(**others)) == 0.1
    silenced = Overrides(selected={"kv": {depth: "informational"}}, session={PPL: 0.5})
    assert limit_for(depth, "M", kv8, silenced) is None
    assert limit_for(depth, "M", kv8, Overrides(selected={"M": {PPL: 2.0}}, session={PPL: 0.5})) == 0.5
    assert limit_for(depth, "M", kv8, Overrides(selected={"kv": {f"{depth}.c4": 0.2}}, session={PPL: 0.5}), "c4") == 0.2


def test_weights_and_cache_together_are_judged_by_what_either_level_says():
    """`int2` leaves accuracy unjudged on purpose; `int8` says nothing of anything."""
    judged = (PPL, "depth_perplexity_delta", DROP, "retrieval_drop_points")
    for name, limits in {
        "int8+kv8": [1.0, 1.0, 3.0, 5.0],
        "int4+kv8": [1.0, 1.0, 3.0, 5.0],
        "int3+kv8": [2.5, 2.5, 6.0, 10.0],
        "int2+kv8": [8.0, 8.0, None, None],
        "kv8": [1.0, 1.0, 3.0, 5.0],
        "int8": [None] * 4,
    }.items():
        assert [limit_for(metric, "M", recipe(name), Overrides()) for metric in judged] == limits


def test_another_text_has_only_limits_of_its_own():
    overrides = Overrides(
        selected={"int4": {PPL: 2.0, f"{PPL}.c4": 3.0}, "M": {f"{PPL}.c4": 4.0}},
        candidates={f"{PPL}.c4": 5.0, f"{PPL}.a.txt": 6.0},
        session={f"{DROP}.mmlu": 1.0},
    )
    for name, expected in {"c4": 5.0, "a.txt": 6.0, "ptb": None}.items():
        assert limit_for(PPL, "M", Q4, overrides, name, first=False) == expected
    assert limit_for(PPL, "M", recipe("int4"), overrides, "c4", first=False) == 4.0
    assert limit_for(PPL, "N", recipe("int4"), overrides, "c4", first=False) == 3.0
    assert limit_for(PPL, "M", Q4, overrides) == 2.0
    assert limited(PPL, "M", Q4, overrides) == ["c4", "a.txt"]
    assert limited(DROP, "M", Q4, overrides) == ["mmlu"]
    assert limited("throughput_ratio", "M", Q4, overrides) == []


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 1.0),
        ({f"{PPL}.c4": 3.0}, 3.0),
        ({f"{PPL}.c4": 3.0, PPL: 2.0}, 3.0),  # of one place the one with the name, in whatever order
        ({f"{PPL}.c4": "informational", PPL: 2.0}, None),
        ({f"{PPL}.ptb": 3.0}, 1.0),
    ],
)
def test_the_first_text_has_the_limit_by_its_name_before_that_without(limits, expected):
    assert limit_for(PPL, "M", recipe("int4"), Overrides(session=limits), "c4") == expected


def test_what_stands_later_overrules_a_limit_by_name_too():
    overrides = Overrides(selected={"int4": {f"{PPL}.c4": 3.0}}, session={PPL: 2.0})
    assert limit_for(PPL, "M", recipe("int4"), overrides, "c4") == 2.0


def test_the_reference_has_no_limit_of_a_session():
    overrides = Overrides(session={"size_reduction_percent": 70.0, f"{PPL}.c4": 1.0})
    assert limit_for("size_reduction_percent", "M", REFERENCE, overrides) is None
    assert limited(PPL, "M", REFERENCE, overrides) == []


def test_a_level_without_limits_is_judged_where_some_are_given():
    int8 = recipe_of_candidate(Candidate(name="q8", source="q8.gguf"), 8.5)
    assert limit_for(PPL, "M", int8, Overrides()) is None
    assert limit_for(PPL, "M", int8, Overrides(session={PPL: 0.5})) == 0.5
