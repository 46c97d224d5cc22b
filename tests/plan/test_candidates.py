"""Candidates take the disk that their files take, and nothing is compressed of them."""

import pytest
from mlx_models import as_mlx

from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.disk_plans import DISK_PLANS
from pytest_quantbench.catalog.models import MODELS, user_model
from pytest_quantbench.catalog.recipes import recipe, recipe_of_candidate
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.plan import disk
from pytest_quantbench.plan.describe import Selection, outlook
from pytest_quantbench.plan.duration import work

PHI = MODELS["phi-4"]


@pytest.fixture
def original(small_model):
    return small_model()


@pytest.fixture
def q8(original, tmp_path):
    directory = as_mlx(original, tmp_path / "q8", bits=8)
    return recipe_of_candidate(Candidate(name="q8", source=str(directory)), 8.5)


@pytest.mark.parametrize("plan", DISK_PLANS)
def test_nothing_is_written_or_deleted_of_a_candidate(q8, plan, monkeypatch, tmp_path):
    """Under every plan: the original alone is fetched, and deleted where a plan deletes it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    alone, beside = ([(PHI, recipe("bf16"))], [(PHI, recipe("bf16")), (PHI, q8)])
    assert list(disk.events(beside, DISK_PLANS[plan])) == list(disk.events(alone, DISK_PLANS[plan]))


def test_a_plan_that_takes_int4_alone_takes_candidates_of_any_width(q8):
    assert [DISK_PLANS["C"].takes(each) for each in (q8, recipe("int8"), recipe("int4"))] == [True, False, True]
    assert not DISK_PLANS["A"].writes(q8)
    assert [DISK_PLANS["A"].writes(recipe(each)) for each in ("bf16", "int8", "int4-rtn")] == [False, True, True]
    assert not DISK_PLANS["S"].writes(recipe("int4"))


def test_its_bytes_are_those_of_its_files_and_not_a_recipes_estimate(q8, tmp_path):
    size = (tmp_path / "q8" / "model.safetensors").stat().st_size
    assert disk.weight_bytes(PHI, q8, offline=True) == size
    assert disk.weight_bytes(PHI, recipe("int8"), offline=True) == pytest.approx(29.32e9 * 8.5 / 16)


def test_it_is_named_with_where_it_lies_and_counted_in_memory(original, q8, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    settings = Settings(cache=tmp_path / "cache", results=tmp_path / "none", offline=True)
    cells = [(user_model(str(original)), q8)]
    lines = list(outlook(Selection(settings=settings, cells=cells, checks=frozenset(["t1"]))))
    assert lines[1:3] == ["to fetch: nothing", f"candidate q8: 0.00 GB at {tmp_path / 'q8'}"]
    assert any(f"T1 loads whole models: 0.0 GB for {original.name}-bf16" in line for line in lines)


def test_no_time_goes_into_compressing_it(q8):
    cells = [(PHI, recipe("bf16")), (PHI, q8), (PHI, recipe("int4"))]
    assert [(each.recipe.id, each.part) for each in work(cells, ["t2"])] == [
        ("bf16", "t2"),
        ("q8", "t2"),
        ("int4", "compression"),
        ("int4", "t2"),
    ]
