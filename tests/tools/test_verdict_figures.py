"""Error rates of whole verdicts, by simulation: the fast version of tools/verdict_figures.py."""

import math

import pytest

from tools.verdict_figures import simulate, unpaired_share
from tools.verdict_settings import ALL_QUESTIONS, AT_THE_LIMIT, GROWING, IN_A_ROW, answers

DRAWS = 200
# Many looks at long texts; one of the kind is always tried.
SLOW = [each for each in AT_THE_LIMIT if each.metric == "perplexity_delta" and len(each.planned) > 1][1:]
NOISE = 3.5 * math.sqrt(0.05 * 0.95 / DRAWS)  # one row in two thousand is beyond by chance


@pytest.mark.parametrize(
    "setting",
    [pytest.param(each, id=each.name, marks=[pytest.mark.slow] if each in SLOW else []) for each in AT_THE_LIMIT],
)
def test_at_the_limit_it_is_wrong_at_most_five_percent_of_the_time(setting):
    rates = simulate(setting, DRAWS)
    assert rates.passed < 0.05 + NOISE
    assert rates.failed < 0.05 + NOISE
    assert 0.3 < rates.point_passed < 0.7  # the gate on the estimate alone tosses a coin


def test_of_the_text_nearby_tokens_tell_less_than_they_seem_to():
    """What windows drawn from all of it are for: in a row, 16,384 tokens are wrong several times too often."""
    rates = simulate(IN_A_ROW[2], DRAWS)
    assert rates.passed + rates.failed > 0.2


def test_a_small_drop_is_found_where_an_unpaired_test_is_blind():
    assert simulate(answers(0.06, 0.0, (1000,), drop=2.0), DRAWS).failed > 0.65
    assert unpaired_share(2000) < 0.05


def test_looking_costs_fewer_questions_and_next_to_no_power():
    for drop in (0.0, 6.0):
        growing = simulate(answers(0.06, 3.0, GROWING, drop=drop), DRAWS)
        fixed = simulate(answers(0.06, 3.0, (ALL_QUESTIONS,), drop=drop), DRAWS)
        assert growing.items < ALL_QUESTIONS / 2
        assert abs(growing.passed - fixed.passed) < 0.05
        assert abs(growing.failed - fixed.failed) < 0.05
