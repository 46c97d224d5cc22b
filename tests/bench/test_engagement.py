"""A cache that did nothing is an error that says why; checks that say nothing of a cache are told so."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from builders import make_losses, make_store, make_target, make_task, make_verdict

from pytest_quantbench.bench.engagement import (
    UNKNOWN,
    UNTOUCHED,
    engaged_in,
    refuse_idle,
    refuse_unreached,
    said_nothing_of,
    told,
    untouched,
    without_cache,
)
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.measures.accuracy.measure import ACCURACY
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.measures.retrieval.samples import RetrievalSamples
from pytest_quantbench.measures.samples import AccuracySamples
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Stage

VALUES = np.linspace(1, 2, 200)


def losses(values=VALUES, deepest=256):
    depths = np.full(len(values), deepest, np.int32)
    return make_losses(values, depths=depths, cache_shapes=((2, 64, 64, 0),))


def refuse(recipe_id, mine, others):
    target = make_target(recipe_id)
    refuse_idle(target, PERPLEXITY, mine, without_cache(target), others)


def test_the_same_weights_without_the_cache():
    assert without_cache(make_target("kv8")) == make_target("bf16")
    assert without_cache(make_target("int4-gptq+kv8")) == make_target("int4-gptq")


@pytest.mark.parametrize(("recipe_id", "beside"), [("kv8", "Tiny-bf16"), ("int4+kv8", "Tiny-int4")])
def test_losses_to_the_last_bit_are_an_error_that_names_both_cells(recipe_id, beside):
    with pytest.raises(ComparisonError) as told:
        refuse(recipe_id, losses(), losses())
    assert f"The cache of Tiny-{recipe_id} has never engaged" in str(told.value)
    assert f"those of {beside} to the last bit" in str(told.value)
    assert "ran the model without the method affine" in str(told.value)


def test_windows_that_a_method_leaves_in_16_bits_are_the_reason_where_they_are():
    with pytest.raises(ComparisonError, match=r"looks back on more than 100, .* kivi leaves the last \d+ in 16 bits"):
        refuse("kivi2", losses(deepest=100), losses(deepest=100))
    with pytest.raises(ComparisonError, match="without the method kivi"):
        refuse("kivi2", losses(deepest=2048), losses(deepest=2048))


def test_the_least_difference_is_engagement():
    changed = VALUES.copy()
    changed[17] = np.nextafter(np.float32(changed[17]), np.float32(9))
    refuse("kv8", losses(changed), losses())


def test_only_the_tokens_that_both_have_are_compared():
    with pytest.raises(ComparisonError, match="never engaged"):
        refuse("kv8", losses(np.append(VALUES, 3.0)), losses())


def test_recipes_of_weights_are_not_asked():
    refuse("int4", losses(), losses())


def reached(mask, **changes):
    mask = np.array(mask)
    return make_losses(np.linspace(1, 2, len(mask)), depths=np.full(len(mask), 96, np.int32), engaged=mask, **changes)


@pytest.mark.parametrize("recipe_id", ["kivi2", "int4+kivi2"])
def test_a_text_of_which_no_token_was_reached_is_an_error_whatever_its_losses_and_without_another_cell(recipe_id):
    nothing = reached([False] * 50, cache_shapes=((2, 64, 64, 0),))
    with pytest.raises(ComparisonError, match=f"Tiny-{re.escape(recipe_id)} has never engaged: none of the 50 tokens"):
        refuse_unreached(make_target(recipe_id), nothing)
    with pytest.raises(ComparisonError, match=r"looks back on more than 96, .* --context N"):
        refuse_unreached(make_target(recipe_id), nothing)
    refuse_unreached(make_target(recipe_id), reached([False] * 49 + [True]))
    refuse_unreached(make_target("int4"), nothing)


def test_layers_that_keep_fewer_tokens_than_a_method_leaves_in_16_bits_are_the_reason_where_they_are(monkeypatch):
    late = Stage(rounding=kv.make(recipe("kv4").cache).form(64).keys[0].rounding, age=32)
    method = SimpleNamespace(form=lambda channels: CacheForm(keys=(late,), values=(late,)))
    monkeypatch.setattr("pytest_quantbench.bench.engagement.kv.make", lambda part: method)
    short = reached([False] * 50, cache_shapes=((2, 64, 64, 32),) * 2)
    with pytest.raises(ComparisonError, match=r"No layer of the model keeps more than 32 tokens, .* last 32 in 16"):
        refuse_unreached(make_target("kivi2"), short)


def answers(engaged, **tasks):
    task = replace(make_task([True] * len(engaged)), engaged=np.array(engaged, bool))
    tasks = {"t": task} | {name: replace(task, engaged=np.array(each)) for name, each in tasks.items()}
    return AccuracySamples(tasks=tasks, available={"t": 3}, cut_contexts=0, weights_sha256="w", seconds=0.0)


@pytest.mark.parametrize(
    ("engaged", "why"),
    [
        ([False] * 20, UNTOUCHED),
        ([False] * 19 + [True], UNTOUCHED),
        ([False] * 18 + [True] * 2, ""),
        ([True] * 20, ""),  # whatever came of it: a good cache changes no answer
        ([], UNKNOWN),
    ],
)
@pytest.mark.parametrize("recipe_id", ["kivi2", "int4+kivi2"])
def test_questions_that_the_cache_never_reached_have_no_verdict(recipe_id, engaged, why, tmp_path):
    store, target = make_store(tmp_path), make_target(recipe_id)
    assert untouched(target, ACCURACY, store) == ""  # there is nothing yet
    store.put(target, ACCURACY, answers(engaged))
    store.put(make_target("bf16"), ACCURACY, answers([]))
    assert untouched(target, ACCURACY, store) == why
    assert untouched(make_target("bf16"), ACCURACY, store) == ""


def test_each_task_and_each_text_is_asked_for_itself(tmp_path):
    store, target = make_store(tmp_path), make_target("kivi2")
    store.put(target, ACCURACY, answers([False] * 3, long=[True] * 3))
    assert untouched(target, ACCURACY, store) == UNTOUCHED
    assert untouched(target, ACCURACY, store, "long") == ""
    store.put(target, PERPLEXITY, reached([True] * 9, beside={"short": reached([False] * 9)}))
    assert untouched(target, PERPLEXITY, store) == ""
    assert untouched(target, PERPLEXITY, store, "short") == UNTOUCHED


def test_how_much_was_reached_stands_in_the_verdict(tmp_path):
    store, target, verdict = make_store(tmp_path), make_target("kivi2"), make_verdict("accuracy_drop_points")
    store.put(target, ACCURACY, answers([True, False, True]))
    found = told(verdict, target, ACCURACY, store, None)
    assert found.sentence == f"{verdict.sentence} The cache held something in fewer bits for 2 of the 3 questions."
    store.put(target, PERPLEXITY, reached([True, False]))
    assert "1 of the 2 tokens" in told(verdict, target, PERPLEXITY, store, None).sentence
    store.put(target, ACCURACY, answers([True] * 3))
    assert told(verdict, target, ACCURACY, store, None) is verdict
    assert told(verdict, make_target("bf16"), ACCURACY, store, None) is verdict


def test_of_retrieval_all_strata_count():
    task = make_task([True, False])
    strata = {"a": replace(task, engaged=np.array([True, False])), "b": replace(task, engaged=np.array([True, True]))}
    samples = RetrievalSamples(strata=strata, depths={}, context_tokens=9, weights_sha256="w", seconds=0.0)
    assert engaged_in(samples).tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("recipe_id", "silent"),
    [
        ("int4", {"depth"}),
        ("kv8", {"size", "throughput"}),
        ("int4+kv8", {"throughput"}),
    ],
)
def test_checks_that_say_nothing_have_a_reason(recipe_id, silent):
    checks = ("size", "perplexity", "accuracy", "throughput", "depth")
    assert {check for check in checks if said_nothing_of(recipe(recipe_id), check)} == silent
