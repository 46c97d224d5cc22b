"""How often retrieval's verdict is wrong: simulated answers over nine strata, looked at as a session looks at them."""

import numpy as np
import pytest
from builders import make_task

from pytest_quantbench.judge.interim import Looks, sizes
from pytest_quantbench.judge.retrieval_drop import judge_retrieval

LIMIT, QUESTIONS, STRATA = 5.0, 160, 9
RUNS = 200
MOST_WRONG = 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5


def drawn(rng, before, after):
    """Answers of a reference and of a quantized model that are right so often, and alike as often as that allows."""
    lucky = rng.random((len(before), QUESTIONS))
    right = [lucky < np.array(each)[:, None] for each in (before, after)]
    flipped = rng.random(lucky.shape) < 0.02  # of them some change places, so that there are gains beside losses
    return right[0] ^ flipped, right[1] ^ (flipped & (rng.random(lucky.shape) < 0.5))


def looked_at(before, after):
    """The verdict of a session that starts with 40 questions."""
    looks = Looks(sizes(40, QUESTIONS))
    while looks.wanted is not None:
        items, alpha = looks.at(QUESTIONS)
        found = [{str(n): make_task(row[:items]) for n, row in enumerate(each)} for each in (after, before)]
        looks.add(items, alpha, judge_retrieval(found[0], found[1], LIMIT, alpha))
    return looks.verdict.outcome


def outcomes(reference, drop, seed):
    """How often each outcome comes up where strata lose so much in truth."""
    rng, found = np.random.default_rng(seed), []
    after = np.maximum(np.array(reference) - np.array(drop), 0.25)
    for _ in range(RUNS):
        before, quantized = drawn(rng, reference, after)
        found.append(looked_at(before, quantized))
    return {name: found.count(name) / RUNS for name in ("pass", "fail", "undecided", "informational")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "drop"),
    [
        ([0.98] * STRATA, [0.05 + 0.01] + [0.0] * (STRATA - 1)),  # one is beyond the limit, by what flips give back
        ([0.98] * STRATA, [0.06] * STRATA),
        ([0.42] + [0.98] * 5 + [0.25] * 3, [0.06] + [0.0] * (STRATA - 1)),  # one that the reference hardly can do
    ],
)
def test_a_model_that_loses_more_than_the_limit_anywhere_hardly_ever_passes(reference, drop):
    assert outcomes(reference, drop, 1)["pass"] <= MOST_WRONG


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "drop"),
    [
        ([0.98] * STRATA, [0.04] * STRATA),  # all are near the limit, and none beyond it
        ([0.25] * STRATA, [0.0] * STRATA),  # the reference guesses, and is lucky now and then
        ([0.3] * STRATA, [0.04] * STRATA),
    ],
)
def test_a_model_that_loses_less_than_the_limit_everywhere_hardly_ever_fails(reference, drop):
    assert outcomes(reference, drop, 2)["fail"] <= MOST_WRONG


@pytest.mark.slow
def test_large_losses_and_none_are_told_apart():
    assert outcomes([0.95] * STRATA, [0.3] + [0.0] * (STRATA - 1), 3)["fail"] > 0.9
    perfect = np.ones((STRATA, QUESTIONS), bool)
    assert looked_at(perfect, perfect) == "pass"
    worse = perfect.copy()
    worse[3, :40] = False
    assert looked_at(perfect, worse) == "fail"


def test_the_first_look_tells_what_is_lost_altogether():
    before, after = np.ones((STRATA, QUESTIONS), bool), np.ones((STRATA, QUESTIONS), bool)
    after[5] = np.arange(QUESTIONS) % 4 == 0
    assert looked_at(before, after) == "fail"


def test_a_stratum_that_is_open_does_not_keep_the_very_same_answers_from_a_pass():
    rng = np.random.default_rng(4)
    same = [rng.random((STRATA, QUESTIONS)) < np.array([0.98] * 8 + [0.33])[:, None] for _ in range(10)]
    assert [looked_at(each, each) for each in same] == ["pass"] * 10
