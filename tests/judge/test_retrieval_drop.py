"""Retrieval's verdict on made answers: what is judged, what is not, and which stratum it hangs on."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_task

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.judge.retrieval_drop import by_stratum, judge_retrieval, unless_able
from pytest_quantbench.stats.estimates import ALPHA
from pytest_quantbench.stats.proportions import flips
from pytest_quantbench.stats.series import holm

NEAR, FAR = "0-512 tokens, 1 hop", "512-1024 tokens, 1 hop"


def answers(right, questions=160):
    """So many right answers, the first ones."""
    return make_task(np.arange(questions) < right)


def test_nothing_lost_passes_with_enough_questions_and_is_undecided_with_few():
    verdict = judge_retrieval({NEAR: answers(160)}, {NEAR: answers(160)}, 5.0)
    assert (verdict.outcome, verdict.items, verdict.value, verdict.reference_value) == ("pass", 160, 1.0, 1.0)
    few = judge_retrieval({NEAR: answers(40, 40)}, {NEAR: answers(40, 40)}, 5.0)
    assert few.outcome == "undecided"
    assert "questions would settle it" in few.needed


def test_all_lost_at_one_depth_fails_and_names_it():
    reference = {NEAR: answers(40, 40), FAR: answers(40, 40)}
    verdict = judge_retrieval({NEAR: answers(40, 40), FAR: answers(10, 40)}, reference, 5.0)
    assert verdict.outcome == "fail"
    assert f"at {FAR}: 25.0% against 100.0%" in verdict.sentence
    assert verdict.estimate == pytest.approx(75.0)
    assert [each.outcome for each in by_stratum({NEAR: answers(40, 40), FAR: answers(10, 40)}, reference, 5.0)] == [
        "undecided",
        "fail",
    ]


def test_what_the_reference_cannot_do_is_told_and_not_judged():
    reference = {NEAR: answers(160), FAR: answers(40)}
    verdict = judge_retrieval({NEAR: answers(160), FAR: answers(10)}, reference, 5.0)
    assert verdict.outcome == "pass"
    assert "can do 1 of 2 strata of depth and hops, cannot do 1, which are not judged" in verdict.sentence
    assert by_stratum({NEAR: answers(160), FAR: answers(10)}, reference, 5.0)[1].outcome == "informational"


def test_a_reference_that_guesses_everywhere_leaves_nothing_to_judge():
    verdict = judge_retrieval({NEAR: answers(20, 80)}, {NEAR: answers(20, 80)}, 5.0)
    assert verdict.outcome == "informational"
    assert "25.0% right at most (0-512 tokens, 1 hop), guessing 25.0%" in verdict.not_judged
    assert (verdict.estimate, verdict.p_good, verdict.p_bad) == (None, None, None)


def test_a_stratum_that_the_reference_may_be_able_to_do_is_open():
    reference = {NEAR: answers(160), FAR: answers(52)}  # 32.5 %: above chance, not surely by more than the limit
    verdict = judge_retrieval(reference, reference, 5.0)
    assert [each.reference for each in by_stratum(reference, reference, 5.0)] == ["can", "open"]
    assert verdict.outcome == "pass"  # nothing was lost there, which is as sure as elsewhere
    assert "may be able to do 1" in verdict.sentence
    lost = judge_retrieval(reference | {FAR: answers(46)}, reference, 5.0)
    assert lost.outcome == "undecided"
    assert f"at {FAR}: 28.7% against 32.5%" in lost.sentence


def test_where_no_stratum_surely_can_be_done_nothing_passes():
    reference = {NEAR: answers(52), FAR: answers(52)}
    verdict = judge_retrieval(reference, reference, 5.0)
    assert [each.reference for each in by_stratum(reference, reference, 5.0)] == ["open", "open"]
    assert verdict.outcome == "undecided"
    assert verdict.needed.startswith("whether the reference can do any of it is open")
    last = unless_able(verdict, reference, 5.0)
    assert last.outcome == "informational"
    assert last.not_judged.startswith("the reference was not shown to do it at any depth: 32.5% right at most")


def test_what_is_sure_is_told_of_a_reference_that_can_do_something():
    reference = {NEAR: answers(160), FAR: answers(52)}
    for quantized in (reference, reference | {NEAR: answers(20)}, reference | {FAR: answers(46)}):
        verdict = judge_retrieval(quantized, reference, 5.0)
        assert unless_able(verdict, reference, 5.0) == verdict


def test_a_pass_holds_in_every_stratum_and_needs_no_correction():
    strata = {f"{n}": answers(160) for n in range(9)}
    one = judge_retrieval({"0": answers(160)}, {"0": answers(160)}, 5.0)
    nine = judge_retrieval(strata, strata, 5.0)
    assert (nine.outcome, nine.p_good) == ("pass", one.p_good)


def test_a_fail_is_corrected_for_all_strata_also_for_those_that_are_not_judged():
    reference = {NEAR: answers(40, 40)} | {f"{n}": answers(60) for n in range(8)}
    quantized = reference | {NEAR: answers(34, 40)}
    p = flips(reference[NEAR].correct, quantized[NEAR].correct).p_above(5.0)
    found = by_stratum(quantized, reference, 5.0)
    others = flips(reference["0"].correct, reference["0"].correct).p_above(5.0)
    assert found[0].p_bad == pytest.approx(holm([p, *[others] * 8])[0])
    assert p < ALPHA < found[0].p_bad
    assert judge_retrieval(quantized, reference, 5.0).outcome == "undecided"


def test_without_a_limit_the_largest_drop_is_shown():
    reference = {NEAR: answers(160), FAR: answers(160)}
    verdict = judge_retrieval({NEAR: answers(150), FAR: answers(100)}, reference, None)
    assert (verdict.outcome, verdict.estimate) == ("informational", pytest.approx(37.5))
    assert verdict.p_good is None


def test_other_questions_are_refused():
    with pytest.raises(ComparisonError, match="other questions"):
        judge_retrieval({NEAR: answers(10, 40)}, {NEAR: replace(answers(10, 40), hashes=("x",) * 40)}, 5.0)
    with pytest.raises(ComparisonError, match="other questions"):
        judge_retrieval({NEAR: answers(10, 40)}, {FAR: answers(10, 40)}, 5.0)
