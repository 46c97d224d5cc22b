"""T3's verdict near chance: nobody passes by guessing, and nothing is promised that cannot be."""

import dataclasses

import numpy as np
import pytest
from builders import make_task
from scipy.stats import binom

from pytest_quantbench.judge import accuracy_drop
from pytest_quantbench.stats import sequential
from pytest_quantbench.stats.estimates import ALPHA
from pytest_quantbench.stats.proportions import excess_p, questions_for_excess


def right(count, questions):
    return np.arange(questions) < count


def judged(reference, quantized, limit=3.0, **rest):
    return accuracy_drop.judge_accuracy("t", make_task(quantized), make_task(reference), limit, **rest)


def test_a_reference_barely_above_chance_passes_nobody():
    """26.5 % on 10,042 four-choice questions: surely above chance, and a guesser drops by 1.5 points only."""
    reference = right(2661, 10_042)
    guesser = np.roll(right(2510, 10_042), 5000)
    verdict = judged(reference, guesser, available=10_042)
    assert verdict.outcome == "undecided"
    assert verdict.p_good > 0.99
    assert "26.5% right of 10,042 questions, guessing 25.0%" in verdict.sentence
    assert verdict.needed == "no number of questions would settle it; judge by an easier task (--task NAME)"
    assert judged(reference, reference, available=10_042).outcome == "undecided"  # not even the reference itself
    assert judged(reference, reference, limit=0.5).outcome == "pass"  # 1.5 points are surely more


@pytest.mark.parametrize(("questions", "truth"), [(200, 0.25), (200, 0.28), (1000, 0.27), (2376, 0.275)])
def test_a_guesser_passes_at_most_five_percent_of_the_time(questions, truth):
    """Whatever it answers, it needs a reference with so many right: enumerated over all numbers of right answers."""
    counts = np.arange(questions + 1)
    allowed = [excess_p(right(count, questions), 0.25, 0.03) < ALPHA for count in counts]
    assert binom.pmf(counts, questions, truth)[allowed].sum() <= ALPHA
    first = int(np.argmax(allowed))
    assert 0.28 < first / questions < 0.36  # a reference that is clearly above is let through


def test_a_guesser_passes_at_most_five_percent_of_the_time_over_all_looks():
    rng, looks = np.random.default_rng(0), (200, 400, 800, 1600)
    levels = sequential.levels([n / looks[-1] for n in looks], ALPHA, ended=True)
    passed = 0
    for _ in range(400):
        reference, guesser = rng.random(1600) < 0.279, rng.random(1600) < 0.25  # it would drop by 2.9 points
        outcomes = [judged(reference[:n], guesser[:n], alpha=a).outcome for n, a in zip(looks, levels, strict=True)]
        passed += "pass" in outcomes
    assert passed / 400 < ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 400)


def test_what_the_task_cannot_give_is_not_promised():
    close = judged(right(62, 200), right(62, 200), available=200)  # 31 %: three points above 28
    assert close.outcome == "undecided"
    more = "questions would settle it, more than the 200 that there are, so that these questions alone cannot settle it"
    assert f"{more}; judge by an easier task" in close.needed
    enough = judged(right(62, 200), right(62, 200), available=10_042)
    assert enough.needed.endswith("questions would settle it")
    reference, quantized = right(160, 200), right(155, 200)  # a drop of 2.5 points
    assert "settle it, more than the 2,376 that there are" in judged(reference, quantized, available=2376).needed
    assert "that there are" not in judged(reference, quantized, available=100_000).needed
    on_it = judged(right(160, 200), right(154, 200)).needed
    assert "lies on the limit itself, and no number of questions would settle it" in on_it


def test_more_questions_are_counted_from_what_was_seen():
    assert questions_for_excess(right(30, 100), 0.25, 0.05) is None
    assert questions_for_excess(right(100, 100), 0.25, 0.75) is None
    few, many = (questions_for_excess(right(count, 100), 0.25, 0.03) for count in (40, 30))
    assert 100 < few < many
    share = right(round(0.4 * few), few)
    assert excess_p(share, 0.25, 0.03) < 0.08  # about what it takes


def test_chance_is_the_mean_over_questions_of_different_choices():
    mixed = dataclasses.replace(make_task(right(50, 100)), loglikelihoods=((0.0,) * 2,) * 50 + ((0.0,) * 4,) * 50)
    assert mixed.chance == pytest.approx(0.375)
    written = dataclasses.replace(mixed, loglikelihoods=((),) * 50 + ((0.0,),) * 50)
    assert written.chance == 0.0
    assert mixed.first(50).chance == 0.5


def test_a_written_task_that_the_reference_cannot_do_passes_nobody():
    """Two of 400 right: a model that writes nothing loses half a point."""
    written = dataclasses.replace(make_task(right(2, 400)), loglikelihoods=((),) * 400)
    nothing = dataclasses.replace(make_task(right(0, 400)), loglikelihoods=((),) * 400)
    assert accuracy_drop.judge_accuracy("t", nothing, written, 3.0).outcome == "undecided"
    able = dataclasses.replace(make_task(right(60, 400)), loglikelihoods=((),) * 400)
    assert accuracy_drop.judge_accuracy("t", able, able, 3.0).outcome == "pass"


def test_a_drop_beyond_the_limit_fails_whatever_the_reference_is():
    verdict = judged(right(120, 400), right(40, 400))
    assert verdict.outcome == "fail"
    assert "guessing" not in verdict.sentence


def test_questions_of_one_passage_are_told_and_decide_less():
    names = tuple(str(n // 20) for n in range(400))
    reference = right(360, 400)
    quantized = reference & ~right(20, 400)  # a whole passage is lost: 5 points
    plain = accuracy_drop.judge_accuracy("t", make_task(quantized), make_task(reference), 1.0)
    together = dataclasses.replace(make_task(reference), clusters=names, cluster_key="passage")
    clustered = accuracy_drop.judge_accuracy("t", make_task(quantized), together, 1.0)
    assert (plain.outcome, clustered.outcome) == ("fail", "undecided")
    assert "20 sources (passage), variance × 20.05" in clustered.sentence
    assert "sources" not in plain.sentence


@pytest.mark.parametrize(
    ("share", "questions", "told"), [(0.225, 200, True), (0.25, 200, False), (0.25, 1600, True), (0.9, 200, False)]
)
def test_no_more_is_asked_where_the_reference_surely_has_too_little_to_lose(share, questions, told):
    reference = make_task(right(round(share * questions), questions))
    assert accuracy_drop.hopeless(reference, 3.0) is told
    assert not accuracy_drop.hopeless(reference, None)


def test_a_reference_that_is_surely_above_chance_and_limit_is_seldom_given_up():
    """31 % of 200 four-choice questions by a limit of 3 points: by the binomial itself."""
    counts = np.arange(201)
    given_up = [accuracy_drop.hopeless(make_task(right(count, 200)), 3.0) for count in counts]
    assert binom.pmf(counts, 200, 0.31)[given_up].sum() < 0.01
