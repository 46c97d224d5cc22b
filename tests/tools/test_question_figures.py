"""Error rates of T3 on questions that share sources, and near chance: the fast version of tools/question_figures.py."""

import math

import numpy as np
import pytest

from pytest_quantbench.stats.clusters import clusters_of
from tools.question_figures import EVERY, GROWING, Passages, guessing, setting
from tools.verdict_figures import simulate

DRAWS = 300
NOISE = 3.5 * math.sqrt(0.05 * 0.95 / DRAWS)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.5])
@pytest.mark.parametrize(
    ("passages", "fewest", "most", "uneven"), [(200, 5, 5, False), (40, 5, 30, False), (60, 1, 60, True)]
)
def test_at_the_limit_it_is_wrong_at_most_five_percent_of_the_time(passages, fewest, most, uneven, correlation):
    kind = Passages(passages=passages, fewest=fewest, most=most, uneven=uneven, correlation=correlation, flipped=0.12)
    rates = simulate(setting(kind, (EVERY,), clustered=True), DRAWS)
    assert rates.passed < 0.05 + NOISE
    assert rates.failed < 0.05 + NOISE


def test_looking_several_times_does_not_raise_it():
    kind = Passages(passages=120, fewest=10, most=10, correlation=0.5, flipped=0.12)
    rates = simulate(setting(kind, GROWING, clustered=True), DRAWS)
    assert rates.passed < 0.05 + NOISE
    assert rates.failed < 0.05 + NOISE


def test_taken_as_independent_they_pass_several_times_too_often():
    kind = Passages(passages=40, fewest=10, most=10, correlation=0.3, flipped=0.12)
    assert simulate(setting(kind, (EVERY,), clustered=False), DRAWS).passed > 0.12


def test_independent_questions_of_many_passages_still_decide():
    """The price of not knowing: at no correlation, clusters cost little power where there are many of them."""
    kind = Passages(passages=200, fewest=5, most=5, correlation=0.0)
    estimates = [
        setting(kind, (EVERY,), clustered=flag).draw(np.random.default_rng(1))(EVERY) for flag in (False, True)
    ]
    plain, clustered = (each.interval() for each in estimates)
    assert (clustered.high - clustered.low) / (plain.high - plain.low) < 1.2


def test_the_draws_have_the_correlation_that_they_say():
    kind = Passages(passages=4000, fewest=10, most=10, correlation=0.3, flipped=0.12)
    change, names = kind.draw(np.random.default_rng(0), 3.0)
    assert clusters_of(tuple(names), len(names)).correlation(change.astype(float)) == pytest.approx(0.3, abs=0.05)
    assert change.mean() == pytest.approx(0.03, abs=0.005)


def test_a_guesser_passes_by_chance_alone_and_no_more_by_a_weak_reference():
    before, now = guessing(10_042, 0.265, 100)
    assert before > 0.6
    assert now == 0.0
    assert guessing(2376, 0.28, 200)[1] < 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / 200)
