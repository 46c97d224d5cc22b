"""What a session puts on the disk, simulated: the numbers of the plans, and refusals before anything is fetched."""

import itertools

import pytest
from builders import open_model
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.catalog.disk_plans import DISK_PLANS, bf16_bytes, in_order
from pytest_quantbench.catalog.models import MODELS, user_model
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.errors import DiskError
from pytest_quantbench.plan import disk
from pytest_quantbench.plan.disk import events, need
from pytest_quantbench.storage.files import GB

TEN = [model for model in MODELS.values() if model.name != "Tiny"]
LLAMA = MODELS["Llama-3.1-8B-Instruct"]


def cells_of(models, *names):
    return [(model, recipe(name)) for model in models for name in names]


ALL = cells_of(TEN, "bf16", "int4", "int3", "int2")


@pytest.fixture(autouse=True)
def empty_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("plan", "most_gb", "left_gb"),
    [("A", 255.7, 255.7), ("B", 105.7, 101.4), ("C", 197.7, 197.7), ("D", 52.8, 43.4), ("S", 29.5, 0)],
)
def test_the_ten_models_at_three_levels_take_what_the_plans_promise(plan, most_gb, left_gb):
    found = need(ALL, DISK_PLANS[plan])
    assert found.both / GB == pytest.approx(most_gb, abs=0.1)
    assert found.left / GB == pytest.approx(left_gb, abs=0.1)


def test_largest_first_is_what_makes_room():
    """In the catalogue's order the last and largest model stands on top of all that came before."""
    plan = DISK_PLANS["B"]
    assert in_order(TEN, plan)[0].name == "Qwen2.5-14B-Instruct"
    steps = {model.name: list(events(cells_of([model], "int4", "int3", "int2"), plan)) for model in TEN}
    running = itertools.accumulate(step.hub + step.cache for model in TEN for step in steps[model.name])
    assert max(running) / GB > 120


def test_events_are_told_one_by_one():
    told = [
        (step.what, round(step.hub / GB, 2), round(step.cache / GB, 2))
        for step in events(cells_of([LLAMA], "bf16", "int4", "int2"), DISK_PLANS["B"])
    ]
    assert told == [
        ("fetch Llama-3.1-8B-Instruct", 16.06, 0),
        ("compress Llama-3.1-8B-Instruct to int4", 0, 4.52),
        ("compress Llama-3.1-8B-Instruct to int2", 0, 2.51),
        ("delete BF16 of Llama-3.1-8B-Instruct", -16.06, 0),
    ]


@given(st.lists(st.sampled_from(TEN), min_size=1, unique=True), st.sampled_from(list(DISK_PLANS.values())))
def test_no_plan_takes_more_than_keeping_everything_or_less_than_the_largest_model(models, plan):
    cells = cells_of(models, "bf16", "int4", "int3")
    found = need(cells, plan)
    assert max(map(bf16_bytes, models)) <= found.both <= need(cells, DISK_PLANS["A"]).both + 1
    assert 0 <= found.left <= found.both
    assert max(found.hub, found.cache) <= found.both <= found.hub + found.cache


def test_models_that_are_here_are_not_fetched_and_not_deleted(small_model, tmp_path):
    model = user_model(str(small_model()))
    size = sum(file.stat().st_size for file in (tmp_path / "llama-0-0").glob("*.safetensors"))
    (step,) = events(cells_of([model], "bf16", "int4"), DISK_PLANS["B"])
    assert step.cache == pytest.approx(size * 4.5 / 16)
    assert need([], DISK_PLANS["A"]).both == 0


def test_models_of_unknown_size_are_named(tmp_path):
    told = disk.describe(cells_of([user_model("someone/thing")], "int4"), DISK_PLANS["A"], tmp_path)
    assert "size of thing unknown" in told[0]


def test_a_disk_that_is_too_small_is_an_error_with_the_numbers_and_the_plans_that_would_do(monkeypatch, tmp_path):
    cells = cells_of([LLAMA], "int4")
    monkeypatch.setattr(disk, "free_bytes", lambda _: 20 * 10**9)
    with pytest.raises(DiskError, match=r"plan A needs 20\.6 GB .* 20\.0 GB are free\. Say --disk-plan S, or set"):
        disk.check_disk(cells, DISK_PLANS["A"], tmp_path)
    disk.check_disk(cells, DISK_PLANS["S"], tmp_path)
    monkeypatch.setattr(disk, "free_bytes", lambda _: 10**9)
    with pytest.raises(DiskError, match="Choose fewer models with -k"):
        disk.check_disk(cells, DISK_PLANS["S"], tmp_path)


def test_two_disks_are_two(monkeypatch, tmp_path):
    cells = cells_of([LLAMA], "int4")
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 10**9 * (17 if "empty" in str(folder) else 5))
    with pytest.raises(DiskError, match=r"needs 20\.6 GB"):
        disk.check_disk(cells, DISK_PLANS["A"], tmp_path)
    monkeypatch.setattr(disk, "_device", lambda folder: hash(str(folder)))
    disk.check_disk(cells, DISK_PLANS["A"], tmp_path)


def test_compressed_models_that_are_there_take_no_more_room(small_model, tmp_path):
    """A run that was killed late goes on although the disk is nearly full of what it has made."""
    directory, cache = small_model(), tmp_path / "cache"
    compress(open_model(directory), recipe("int4-rtn"), 0, cache)
    for name in ("0ab1" * 8, "a-users-own"):
        (cache / "artifacts" / name).mkdir()
        (cache / "artifacts" / name / "manifest.json").write_text("{")
    model = user_model(str(directory))
    cells = [(model, recipe(name)) for name in ("int4-rtn", "int3-rtn")]
    have = disk.compressed(cache)
    assert [step.what for step in events(cells, DISK_PLANS["A"], have)] == ["compress llama-0-0 to int3-rtn"]
    of_the_hub = ("models--meta-llama--Llama-3.1-8B-Instruct", "int4")
    assert disk._place(f"/hub/{of_the_hub[0]}/snapshots/ab") == of_the_hub[0]
    (step,) = events(cells_of([LLAMA], "int4"), DISK_PLANS["A"], {of_the_hub})
    assert step.what == "fetch Llama-3.1-8B-Instruct"
