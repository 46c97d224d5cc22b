"""Looking until decided: the plan, the data that end, the clock, and the error rates of the whole."""

import time

import numpy as np
import pytest

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge import interim
from pytest_quantbench.judge.rules import judged
from pytest_quantbench.stats import sequential
from pytest_quantbench.stats.estimates import Exact, Student
from pytest_quantbench.stats.proportions import flips


@pytest.mark.parametrize(
    ("first", "most", "planned"),
    [(200, 2376, [200, 400, 800, 1600, 2376]), (200, 600, [200, 400, 600]), (200, 200, [200]), (200, 50, [50])],
)
def test_sizes_double_up_to_all(first, most, planned):
    assert interim.sizes(first, most) == planned


def follow(planned, grow, verdict_at, deadline_seconds=None, whole=None, hopeless=lambda items: False):
    """All looks, as whoever has the samples takes them."""
    looks = interim.Looks(planned, deadline_seconds, whole)
    while (wanted := looks.wanted) is not None:
        items, alpha = looks.at(grow(wanted))
        looks.add(items, alpha, verdict_at(items, alpha), hopeless=hopeless(items))
    return looks.verdict


class Answers:
    """Right and wrong answers of two models with these flip rates, handed over as they are asked for."""

    def __init__(self, rng, questions, lost, gained):
        kind = rng.choice(3, questions, p=[lost, gained, 1 - lost - gained])
        right = rng.random(questions) < 0.8
        self.reference = np.where(kind == 0, True, np.where(kind == 1, False, right))
        self.quantized = np.where(kind == 0, False, np.where(kind == 1, True, right))
        self.shown = 0

    def grow(self, wanted):
        self.shown = min(wanted, len(self.reference))
        return self.shown

    def verdict_at(self, items, alpha, limit=3.0):
        assert items <= self.shown
        observed = flips(self.reference[:items], self.quantized[:items])
        return judged(METRICS["accuracy_drop_points"], observed, limit, "", alpha, observed.questions)


def run(rng, lost, gained, questions=1600):
    answers = Answers(rng, questions, lost, gained)
    return follow(interim.sizes(200, questions), answers.grow, answers.verdict_at)


def test_a_clear_case_stops_early_and_lists_its_looks():
    verdict = run(np.random.default_rng(0), 0.4, 0.0)
    assert (verdict.outcome, len(verdict.looks), verdict.items) == ("fail", 1, 200)
    assert verdict.looks[0].alpha < 1e-5
    verdict = run(np.random.default_rng(0), 0.0, 0.0)
    assert verdict.outcome == "pass"
    assert [look.items for look in verdict.looks] == [200, 400, 800][: len(verdict.looks)]
    assert [look.outcome for look in verdict.looks[:-1]] == ["undecided"] * (len(verdict.looks) - 1)
    assert verdict.p_good < 0.05 < verdict.p_bad


def test_data_that_end_early_spend_what_is_left():
    answers = Answers(np.random.default_rng(1), 300, 0.0, 0.0)
    verdict = follow([200, 400, 800], answers.grow, answers.verdict_at)
    assert verdict.looks[-1].items == 300
    assert verdict.looks[-1].alpha == pytest.approx(0.05, abs=0.001)
    answers = Answers(np.random.default_rng(1), 200, 0.0, 0.0)  # the second look brings nothing new
    verdict = follow([200, 400, 800], answers.grow, answers.verdict_at)
    assert [look.items for look in verdict.looks] == [200]
    assert verdict.looks[0].alpha == pytest.approx(0.05)


def test_the_clock_ends_it_with_a_last_look():
    answers = Answers(np.random.default_rng(2), 1600, 0.05, 0.02)
    verdict = follow([200, 400, 1600], answers.grow, answers.verdict_at, time.monotonic() - 1)
    assert len(verdict.looks) == 1
    assert verdict.looks[0].alpha == pytest.approx(0.05)


def test_one_look_is_the_plain_test():
    answers = Answers(np.random.default_rng(3), 400, 0.02, 0.02)
    once, plain = follow([400], answers.grow, answers.verdict_at), answers.verdict_at(400, 0.05)
    assert (once.outcome, once.low, once.high, once.p_good) == (plain.outcome, plain.low, plain.high, plain.p_good)


def test_adjusted_p_values_say_what_the_looks_said():
    """Below α on the side that was decided and there only."""
    rng, seen = np.random.default_rng(5), set()
    for lost, gained in [(0.02, 0.02), (0.08, 0.02), (0.05, 0.02), (0.03, 0.01), (0.1, 0.02)]:
        verdict = run(rng, lost, gained)
        adjusted = interim.adjusted(verdict)
        seen.add((verdict.outcome, len(verdict.looks) > 1))
        assert (adjusted.p_good < 0.05, adjusted.p_bad < 0.05) == (verdict.outcome == "pass", verdict.outcome == "fail")
        assert adjusted.p_good >= verdict.p_good
    assert {("pass", True), ("fail", True)} <= seen


@pytest.mark.slow
def test_adjusted_p_values_are_p_values():
    """With the truth on the limit they are below u no more often than u, wherever the looking stopped."""
    rng, found = np.random.default_rng(6), []
    for _ in range(400):
        answers = Answers(rng, 800, 0.075, 0.045)
        verdict = follow([400, 800], answers.grow, answers.verdict_at)
        found.append(interim.adjusted(verdict).p_bad)
    for u in (0.02, 0.05, 0.2):
        assert np.mean(np.array(found) <= u) < u + 3 * np.sqrt(u * (1 - u) / 400)


def test_a_single_look_at_all_there_is_needs_no_adjustment():
    answers = Answers(np.random.default_rng(3), 400, 0.02, 0.02)
    verdict = follow([400], answers.grow, answers.verdict_at)
    assert interim.adjusted(verdict) == verdict


@pytest.mark.parametrize(("flipped", "questions"), [(0.05, 600), (0.12, 1600)])
def test_at_the_margin_it_is_wrong_at_most_five_percent_of_the_time(flipped, questions):
    rng, outcomes = np.random.default_rng(4), {"pass": 0, "fail": 0, "undecided": 0}
    for _ in range(300):
        outcomes[run(rng, (flipped + 0.03) / 2, (flipped - 0.03) / 2, questions).outcome] += 1
    assert max(outcomes["pass"], outcomes["fail"]) / 300 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_a_look_at_all_that_there_is_is_exact_and_costs_nothing():
    """The looks before it share the error probability, and it decides whatever they said."""
    seen = []

    def verdict_at(items, alpha):
        seen.append((items, alpha))
        estimate = Exact(value=1.1) if items == 1000 else Student(value=1.1, standard_error=1.0, degrees=items - 1)
        return judged(METRICS["perplexity_delta"], estimate, 1.0, "", alpha, items)

    verdict = interim.adjusted(follow([200, 400, 800, 1000], lambda items: items, verdict_at, whole=1000))
    assert (verdict.outcome, verdict.p_good, verdict.p_bad) == ("fail", 1.0, 0.0)
    assert [look.items for look in verdict.looks] == [200, 400, 800, 1000]
    shares = [look.fraction for look in verdict.looks[:3]]
    assert shares == pytest.approx([250 / 4000, (400 / 0.6) / 4000, 1.0])
    np.testing.assert_allclose([alpha for _, alpha in seen[:3]], sequential.levels(shares, 0.05))


def test_information_of_a_sample_without_replacement_is_one_over_its_variance():
    assert interim.information(100, None) == 100
    assert 1 / interim.information(100, 400) == pytest.approx(1 / 100 - 1 / 400)


def test_where_the_plan_ends_before_the_text_does_the_last_look_spends_what_is_left():
    def verdict_at(items, alpha):
        estimate = Student(value=1.0, standard_error=1.0, degrees=9)
        return judged(METRICS["perplexity_delta"], estimate, 1.0, "", alpha, items)

    verdict = follow([200, 400], lambda items: items, verdict_at, whole=1000)
    assert [look.fraction for look in verdict.looks] == pytest.approx([250 / (400 / 0.6), 1.0])
    assert verdict.looks[-1].last


def test_a_hopeless_check_is_not_gone_on_with():
    asked = []

    def grow(items):
        asked.append(items)
        return items

    def undecided(items, alpha):
        return judged(
            METRICS["accuracy_drop_points"], flips(np.ones(items, bool), np.ones(items, bool)), 0.0, "", alpha
        )

    verdict = follow([200, 400, 800], grow, undecided, hopeless=lambda items: items >= 400)
    assert asked == [200, 400]
    assert verdict.outcome == "undecided"
