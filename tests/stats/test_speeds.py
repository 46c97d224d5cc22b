"""Speed ratios: by hand, and how often a T1 beside load that comes and goes is sure of a wrong one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.stats import speeds
from pytest_quantbench.stats.estimates import ALPHA, student_quantile

PROMPTS, ROUNDS = 5, 15


def session(rng, *, ratio=1.0, alike=0.0, load=0.3, unequal=0.1, noise=0.02):
    """(prompt, rate) of a reference and of a model `ratio` times as fast, in turn, beside load whose neighbours have
    this correlation. It slows both alike by `load`, and one of them by `unequal` more.
    """
    state, runs = rng.standard_normal(2), ([], [])
    prompts = 0.02 * rng.standard_normal(PROMPTS)
    for place in range(ROUNDS):
        state = alike * state + math.sqrt(1 - alike**2) * rng.standard_normal(2)
        both = load * state[0] + prompts[place % PROMPTS]
        logs = both + noise * rng.standard_normal(2) + np.array([0.0, unequal * state[1] + math.log(ratio)])
        for side, log in zip(runs, logs, strict=True):
            side.append((place % PROMPTS, 100 * math.exp(log)))
    return runs


def test_what_slows_both_of_a_round_cancels():
    reference, quantized = session(np.random.default_rng(0), ratio=1.5, unequal=0.0, alike=0.5)
    paired, unpaired = speeds.paired_ratio(reference, quantized), speeds.unpaired_ratio(reference, quantized)
    assert paired.value == pytest.approx(unpaired.value) == pytest.approx(1.5, rel=0.02)
    assert paired.interval().high / paired.interval().low < 1.05
    assert unpaired.interval().high / unpaired.interval().low > 1.2


def test_the_wider_of_both_errors_holds():
    """Prompts that disagree, in rounds that agree; and the other way round."""
    by_prompt = [(p, 100.0) for p in range(3)] * 5, [(p, 100.0 * (1 + p)) for p in range(3)] * 5
    found = speeds.paired_ratio(*by_prompt)
    logs = np.log([1, 2, 3])
    half = student_quantile(ALPHA, 2) * logs.std(ddof=1) / math.sqrt(3)
    assert math.log(found.interval().high / found.value) == pytest.approx(half)
    later = [(p, 100.0 * (1 + p / 1000) * (1.5 if place > 2 else 1)) for place in range(6) for p in range(3)]
    by_rounds = speeds.paired_ratio([(p, 100.0) for _ in range(6) for p in range(3)], later)
    assert by_rounds.interval().low < 1 < 1.5 < by_rounds.interval().high


def test_a_single_prompt_has_rounds():
    found = speeds.paired_ratio([(0, 10.0), (0, 11.0), (0, 9.0)], [(0, 20.0), (0, 22.5), (0, 18.0)])
    assert found.value == pytest.approx(math.exp(np.log([2, 22.5 / 11, 2]).mean()))
    assert found.interval().low < 2.02 < found.interval().high


def test_nothing_is_known_without_a_spread_or_a_common_prompt():
    assert speeds.unpaired_ratio([(0, 1.0), (0, 2.0)], [(0, 3.0)]) is None
    assert speeds.unpaired_ratio([(0, 1.0), (1, 2.0)], [(0, 2.0), (1, 4.0)]) is None
    assert speeds.paired_ratio([(0, 1.0), (1, 2.0)], [(0, 2.0), (1, 4.0)]) is None
    assert speeds.paired_ratio([(0, 1.0)], [(0, 2.0)]) is None


def test_what_the_machine_itself_moved_is_in_the_error_of_runs_of_other_times():
    runs = session(np.random.default_rng(1), load=0.01, unequal=0.0)
    still, moved = (speeds.unpaired_ratio(*runs, drift=drift).interval() for drift in (0.0, 0.05))
    assert moved.low < still.low < still.high < moved.high
    assert moved.low < 1 / 1.05 < 1.05 < moved.high


@settings(max_examples=30)
@given(st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_a_factor_on_every_rate_is_one_on_the_ratio(scale, seed):
    runs, others = session(np.random.default_rng(seed))
    for ratio in (speeds.paired_ratio, speeds.unpaired_ratio):
        plain = ratio(runs, others).interval()
        scaled = ratio(runs, [(prompt, scale * rate) for prompt, rate in others]).interval()
        assert (scaled.low, scaled.high) == pytest.approx((scale * plain.low, scale * plain.high))


@pytest.mark.parametrize(("alike", "most"), [(0.0, 0.1), (0.3, 0.12), (0.6, 0.16)])
def test_how_often_it_misses_beside_load_that_lasts(alike, most):
    """Nominally 10 %."""
    rng = np.random.default_rng(7)
    found = [speeds.paired_ratio(*session(rng, alike=alike)).interval() for _ in range(400)]
    assert np.mean([not each.low < 1 < each.high for each in found]) <= most


@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_two_sessions_of_the_same_models_rarely_exclude_each_other(alike):
    """Of pairs whose intervals are of 90 % each, and beside load that slows one of both by a third more."""
    rng, excluded = np.random.default_rng(11), 0
    for _ in range(200):
        first, second = (speeds.paired_ratio(*session(rng, alike=alike, unequal=0.3)).interval() for _ in range(2))
        excluded += first.low > second.high or second.low > first.high
    assert excluded / 200 <= 0.06


@pytest.mark.parametrize(("prompts", "runs", "most"), [(20, 1, 0.18), (5, 1, 0.25), (5, 3, 0.18)])
def test_how_often_runs_of_other_times_miss_with_few_rounds(prompts, runs, most):
    """Neighbours of the correlation 0.6, nominally 10 %. As if one run of each of 20 prompts were independent: 42 %."""
    rng, missed = np.random.default_rng(5), []
    for _ in range(300):
        both = []
        for factor in (100.0, 150.0):
            state, rates = rng.standard_normal(), []
            for place in range(prompts * runs):
                state = 0.6 * state + 0.8 * rng.standard_normal()
                rates.append((place % prompts, factor * math.exp(0.05 * state + place % prompts)))
            both.append(rates)
        interval = speeds.unpaired_ratio(*both).interval()
        missed.append(not interval.low < 1.5 < interval.high)
    assert np.mean(missed) <= most
