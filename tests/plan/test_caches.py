"""Cells with a quantized cache in plans, picks and what a record lacks: they have no files of their own."""

import pytest
from builders import make_cache, make_perplexity, make_record

from pytest_quantbench.catalog.criteria import asked_of
from pytest_quantbench.catalog.disk_plans import DISK_PLANS
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.plan import describe_pick, disk
from pytest_quantbench.plan.duration import work
from pytest_quantbench.plan.pick import pick
from pytest_quantbench.record.completeness import missing
from pytest_quantbench.record.folder import completed_by
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.record.ranking import Ranked, Ranking
from pytest_quantbench.record.state import lacking
from pytest_quantbench.report import github, ranks

MODEL = MODELS["Qwen3-8B"]


def written(*recipes):
    cells = [(MODEL, recipe(each)) for each in recipes]
    return [event.what for event in disk.events(cells, DISK_PLANS["A"]) if event.cache]


def test_a_cache_is_not_compressed_and_what_it_is_joined_with_once():
    assert written("kv8", "k8v4") == []
    assert written("int4", "int4+kv8", "int4+kv4") == written("int4+kv8") == [f"compress {MODEL.name} to int4"]


@pytest.mark.parametrize(("plan", "taken"), [("A", True), ("C", True), ("D", True)])
def test_a_cache_alone_fits_every_plan_and_joined_ones_go_with_their_weights(plan, taken):
    assert DISK_PLANS[plan].takes(recipe("kv4")) is taken
    assert DISK_PLANS[plan].takes(recipe("int4+kv4"))
    assert DISK_PLANS[plan].takes(recipe("int8+kv4")) == DISK_PLANS[plan].takes(recipe("int8"))


def test_no_time_is_planned_for_what_is_not_done():
    parts = {
        each: [piece.part for piece in work([(MODEL, recipe(each))], ("t1", "t2"))] for each in ("kv8", "int4+kv8")
    }
    assert parts == {"kv8": ["t2"], "int4+kv8": ["compression", "t2"]}


def kv8(**changes):
    return make_record(**{"recipe": "kv8", "level": "kv", "bits": 16, "cache": make_cache()} | changes)


def test_a_cache_is_not_picked():
    (choice,) = pick([Measured(record=make_record(), arrays={}), Measured(record=kv8(), arrays={})], {"max-gb": 1.0})
    cells = [*choice.rejected, *choice.undecided, *choice.larger, *filter(None, [choice.picked])]
    assert [each.record.recipe for each in cells] == ["int4"]
    assert choice.caches == ("kv8",)
    told = " ".join(describe_pick.lines([choice]))
    assert "not weighed: kv8: a quantized key-value cache makes no files smaller" in " ".join(told.split())


def test_its_card_and_its_rank_say_what_it_takes():
    part = make_cache()
    figure = f"{part.size.bits_per_value:.2f}"
    told = github.summary([kv8()])
    assert f"- Tiny-kv8 holds its key-value cache by {part.method}" in told
    assert f"{figure} bits per number, {part.size.reduction_percent:.1f} % less than BF16's" in told
    assert "key-value cache" not in github.summary([make_record()])
    assert "was not measured" in github.summary([kv8(cache=make_cache(size=None, sizes=()))])
    ranked = {"ppl": 4.0, "behind": None, "letters": "a", "floor_nats": 0.1, "bits_per_weight": 16.0}
    cells = [
        Ranked(name=f"Tiny-{name}", recipe=name, bits_per_value=bits, **ranked)
        for name, bits in (("bf16", None), ("kv8", part.size.bits_per_value))
    ]
    ranking = Ranking(model="Tiny", corpus="c", tokens=9, cells=tuple(cells), left_out={}, fewest="")
    told = " ".join(" ".join(ranks.terminal([ranking])).split())
    assert f"A number in the key-value cache takes: kv8 {figure}; else 16." in told


def test_a_record_lacks_what_its_kind_is_asked():
    assert lacking(kv8()) == asked_of("cache")
    assert "size_reduction_percent" not in lacking(kv8())
    told = " ".join(missing(kv8()))
    assert "perplexity" in told
    assert "-m t1" not in told
    assert "-m weights" not in told


def test_a_session_without_t2_keeps_what_its_walk_saw():
    old = kv8(perplexity=make_perplexity())
    arrays = {"perplexity/nll_nats": [1.0]}
    found, _ = completed_by(kv8(cache=make_cache(size=None, sizes=())), {}, old, arrays)
    assert found.cache == old.cache
    assert found.file_stem == "Tiny_16bit_kv8"
