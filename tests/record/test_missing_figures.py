"""Figures that one of two records does not have, or has no numbers of: what of the base was not compared is counted."""

from dataclasses import replace

import numpy as np
import pytest
from generated_suite import cells

from pytest_quantbench.judge.change import settle
from pytest_quantbench.record import comparison, pairing, text_comparison
from pytest_quantbench.record.pairing import Measured


@pytest.fixture(scope="module")
def base():
    """A cell with all that is measured."""
    _, (record, arrays) = cells(models=1, recipes=("int4",))
    return Measured(record=record, arrays=arrays)


def divergence(one, other):
    (found,) = [each for each in comparison.pairs(one, other) if each.metric == "kl"]
    return found


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_divergences_that_are_no_numbers_are_a_regression_in_the_new_run_and_not_compared_with_a_base(base, broken):
    arrays = {"perplexity/kl_nats": np.append(base.arrays["perplexity/kl_nats"][1:], np.float32(broken))}
    new = replace(base, arrays={**base.arrays, **arrays})
    assert settle([divergence(base, new)])[0].word == "regression"
    (change,) = settle([divergence(new, base)])
    assert (change.word, change.sentence) == ("not compared", f"KL divergence: {text_comparison.NOT_FINITE}")


@pytest.mark.parametrize("part", ["compression", "throughput", "perplexity", "accuracy"])
def test_what_one_side_alone_has_is_told_of_every_figure(base, part):
    """All figures are there, whichever side lacks them, so that their number says how much was not compared."""
    less = replace(base, record=replace(base.record, **{part: None}))
    every = {(each.metric, each.of) for each in comparison.pairs(base, base)}
    for one, two, word in ((base, less, "not compared"), (less, base, "not in the base")):
        found = comparison.pairs(one, two)
        assert {(each.metric, each.of) for each in found} == every
        apart = [change for change in settle(found) if change.word != "identical"]
        assert {change.word for change in apart} == {word}
        assert len(apart) == {"perplexity": 2, "accuracy": 2}.get(part, 1)


def test_a_divergence_that_one_side_alone_has_is_told(base):
    bare = replace(base, arrays={name: each for name, each in base.arrays.items() if not name.endswith("kl_nats")})
    assert divergence(base, bare).why == pairing.MISSING
    assert divergence(bare, base).why == pairing.NOT_IN_BASE
