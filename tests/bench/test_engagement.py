"""A cache that did nothing is an error that says why; checks that say nothing of a cache are told so."""

import numpy as np
import pytest
from builders import make_losses, make_store, make_target, make_task

from pytest_quantbench.bench.engagement import is_untouched, refuse_idle, said_nothing_of, without_cache
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.measures.accuracy.measure import ACCURACY
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.measures.samples import AccuracySamples

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


def answers(correct, log_likelihood=0.0):
    task = make_task(correct)
    task = type(task)(
        **{name: getattr(task, name) for name in task.__slots__}
        | {"loglikelihoods": ((log_likelihood,) * 4,) * len(correct)}
    )
    return AccuracySamples(tasks={"t": task}, available={"t": 3}, cut_contexts=0, weights_sha256="w", seconds=0.0)


def test_answers_that_the_cache_never_touched(tmp_path):
    store = make_store(tmp_path)
    target = make_target("kivi2")
    assert not is_untouched(target, ACCURACY, store)
    store.put(target, ACCURACY, answers([True, False, True]))
    assert not is_untouched(target, ACCURACY, store)  # there is nothing to compare with
    store.put(make_target("bf16"), ACCURACY, answers([True, False, True]))
    assert is_untouched(target, ACCURACY, store)
    store.put(target, ACCURACY, answers([True, False, True], -1.0))
    assert not is_untouched(target, ACCURACY, store)


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
