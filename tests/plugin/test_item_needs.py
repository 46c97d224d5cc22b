import unicodedata
from types import SimpleNamespace

import pytest

from pytest_quantbench.catalog.disk_plans import DISK_PLANS
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.plugin import item_needs

TINY, PHI = MODELS["Tiny"], MODELS["phi-4"]
INT3, INT4 = recipe("int3"), recipe("int4")


def item(*cell, fixtures=(), markers=()):
    """As much of an item as these functions look at."""
    params = dict(zip(("quantbench_subject", "cell"), cell, strict=False))
    made = SimpleNamespace(fixturenames=fixtures, get_closest_marker=lambda name: name in markers or None)
    made.iter_markers = lambda: [SimpleNamespace(name=name) for name in markers]
    if cell:
        made.callspec = SimpleNamespace(params=params)
    return made


def test_an_items_cell_is_its_parameters():
    assert item_needs.parameters(item(TINY, INT4)) == (TINY, INT4)
    assert item_needs.parameters(item()) is None
    assert item_needs.parameters(SimpleNamespace(callspec=SimpleNamespace(params={"cell": 1}))) is None


@pytest.mark.parametrize(
    ("name", "typed"),
    [("Tiny", "Tiny"), ("my model (2)", "my_model__2_"), ("a#b", "a_b"), ("Qwen2.5-1.5B", "Qwen2.5-1.5B")],
)
def test_a_name_is_spelled_as_an_expression_can_hold_it(name, typed):
    assert item_needs.spellings(name) == {name, typed}


def test_letters_with_accents_are_spelled_composed_and_not():
    assert item_needs.spellings("ünï") >= {unicodedata.normalize(form, "ünï") for form in ("NFC", "NFD")}


def test_each_cell_counts_once():
    assert item_needs.cells_of([item(TINY, INT4), item(), item(PHI, INT4), item(TINY, INT4), item(TINY, INT3)]) == [
        (TINY, INT4),
        (PHI, INT4),
        (TINY, INT3),
    ]


@pytest.mark.parametrize(
    ("each", "plan", "asked", "wanted"),
    [
        (item(TINY, INT3), "A", (), True),
        (item(TINY, INT3), "D", (), False),
        (item(TINY, INT4), "D", (), True),
        (item(TINY, INT4, markers=("selftest",)), "A", (), False),
        (item(TINY, INT4, markers=("selftest",)), "A", ("selftest",), True),
        (item(TINY, INT4, markers=("retrieval",)), "A", (), False),
        (item(TINY, INT4, markers=("retrieval",)), "A", ("retrieval",), True),
        (item(TINY, recipe("kv8"), markers=("retrieval",)), "A", (), True),
        (item(TINY, recipe("int4+kv8"), markers=("retrieval",)), "A", (), True),
        (item(TINY, INT4, markers=("load",)), "A", ("selftest",), False),
        (item(TINY, INT4, markers=("load",)), "A", ("int4", "load"), True),
        (item(TINY, recipe("kv8"), markers=("load",)), "A", ("load",), False),
        (item(markers=("selftest",)), "D", (), True),  # another's
    ],
)
def test_what_a_session_runs(each, plan, asked, wanted):
    assert item_needs.is_wanted(each, DISK_PLANS[plan], asked=asked) == wanted


@pytest.mark.parametrize(("runtimes_for", "wanted"), [((), False), ((INT4.id,), True), (("q4",), False)])
def test_on_a_runtime_are_only_candidates_that_have_one(runtimes_for, wanted):
    each = item(TINY, INT4, markers=("runtime",))
    assert item_needs.is_wanted(each, DISK_PLANS["A"], runtimes_for=runtimes_for) == wanted


def test_what_a_runtime_is_compared_with_is_expected_along_the_walk():
    found = item_needs.expected([item(TINY, INT4, markers=("runtime",)), item(TINY, INT3, markers=("t3",))])
    assert found == {"Tiny": [(INT4, "perplexity"), (INT3, "accuracy")]}


def test_items_of_ours_are_known_by_their_fixtures():
    assert item_needs.is_ours(item(fixtures=("cell", "quantbench_subject", "quantbench_run")))
    assert not item_needs.is_ours(item(fixtures=("cell",)))
    assert item_needs.needs_suite(item(fixtures=("suite", "quantbench_records", "quantbench_run")))


def test_what_the_items_of_a_model_will_ask_for():
    found = item_needs.expected(
        [item(TINY, INT4, markers=("t2",)), item(TINY, INT3, markers=("size",)), item(markers=("t2",))]
    )
    assert list(found) == ["Tiny"]
    assert [chosen for chosen, _ in found["Tiny"]] == [INT4]
