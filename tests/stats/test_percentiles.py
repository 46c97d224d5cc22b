"""Percentiles with intervals between order statistics: against enumeration, and how often they miss, by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from pytest_quantbench.stats.percentiles import _ranks, percentiles
from pytest_quantbench.stats.series import mean_of_units

PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)


def binomial_tail(count, share, least):
    """How likely are at least so many of `count`, each with this share: by adding up."""
    return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(least, count + 1))


@pytest.mark.parametrize(("count", "share"), [(5, 0.5), (20, 0.5), (20, 0.9), (59, 0.95), (58, 0.95), (300, 0.99)])
def test_ranks_of_independent_values_are_the_innermost_that_are_sure_enough(count, share):
    low, high = _ranks(count, share, count, 0.05)
    sure_low = [rank for rank in range(1, count + 1) if 1 - binomial_tail(count, share, rank) <= 0.05]
    sure_high = [rank for rank in range(1, count + 1) if binomial_tail(count, share, rank) <= 0.05]
    assert (low, high) == (max(sure_low, default=None), min(sure_high, default=None))


def test_the_tables_of_the_median_are_met():
    assert _ranks(20, 0.5, 20, 0.05) == (6, 15)
    assert _ranks(4, 0.5, 4, 0.05) == (None, None)


def test_an_end_that_no_value_is_sure_of_is_left_open():
    assert _ranks(2995, 0.999, 2995, 0.05)[1] == 2995  # 0.999 to the power 2995 is just below 5 %
    assert _ranks(2994, 0.999, 2994, 0.05)[1] is None
    assert _ranks(100_000, 0.999, 2994, 0.05)[1] is None  # that many, worth less


def test_the_estimate_is_the_samples_own_percentile():
    values = np.arange(1, 1002, dtype=np.float32)
    found = percentiles(values, [place % 7 for place in range(len(values))], PERCENTS)
    assert {name: each.estimate for name, each in found.items()} == pytest.approx(
        {"50": 501.0, "90": 901.0, "95": 951.0, "99": 991.0, "99.9": 1000.0}
    )
    assert found["99.9"].high is None
    assert found["50"].confidence == 0.9


def test_of_one_unit_nothing_is_known_and_of_no_values_nothing_is_said():
    (alone,) = percentiles(np.arange(500.0), [3] * 500, (50.0,)).values()
    assert (alone.estimate, alone.low, alone.high) == (249.5, None, None)
    assert percentiles(np.zeros(0, np.float32), [], PERCENTS) == {}


@given(
    st.lists(st.floats(1e-4, 10), min_size=1, max_size=400),
    st.integers(1, 7),
    st.sampled_from(PERCENTS),
)
def test_an_interval_holds_its_estimate_and_ends_at_values(values, units, percent):
    (found,) = percentiles(np.array(values), [place % units for place in range(len(values))], (percent,)).values()
    assert found.low is None or (found.low <= found.estimate and found.low in [*values, found.estimate])
    assert found.high is None or (found.high >= found.estimate and found.high in [*values, found.estimate])


@given(st.integers(0, 2**32 - 1))
def test_a_longer_sample_of_units_that_differ_says_no_more(seed):
    """Units that are each of one value: to repeat them adds nothing, and the interval stays."""
    rng = np.random.default_rng(seed)
    of_units = rng.normal(0, 1, 40)
    short, long = (
        percentiles(np.repeat(of_units, times), np.repeat(np.arange(40), times).tolist(), (50.0,))["50"]
        for times in (2, 50)
    )
    ordered = np.sort(of_units)
    for end in ("low", "high"):  # to within the next unit, as ranks are whole
        assert abs(np.searchsorted(ordered, getattr(long, end)) - np.searchsorted(ordered, getattr(short, end))) <= 1


def gaps(rng, prompts, runs, tokens, *, of_prompts, of_runs, kept):
    """(values, units): each prompt and each run faster or slower by chance; each token a mix of the one before."""
    noise = rng.normal(0, 0.1, (prompts * runs, tokens))
    for place in range(1, tokens if kept else 0):
        noise[:, place] = kept * noise[:, place - 1] + math.sqrt(1 - kept**2) * noise[:, place]
    own = np.repeat(rng.normal(0, of_prompts, prompts), runs) + rng.normal(0, of_runs, prompts * runs)
    return (noise + own[:, None]).ravel(), np.repeat(np.arange(prompts), runs * tokens).tolist()


@pytest.mark.parametrize("runs", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "spread",
    [
        {"of_prompts": 0.0, "of_runs": 0.0, "kept": 0.0},
        {"of_prompts": 0.0, "of_runs": 0.0, "kept": 0.8},
        {"of_prompts": 0.0, "of_runs": 0.05, "kept": 0.0},
        {"of_prompts": 0.05, "of_runs": 0.0, "kept": 0.0},
        {"of_prompts": 0.05, "of_runs": 0.05, "kept": 0.5},
    ],
)
def test_each_side_misses_in_about_5_percent_however_runs_depend_on_each_other(spread, runs):
    """Of T1's five prompts, as long as they differ by less than the tokens of a run do."""
    rng, repeats = np.random.default_rng(6), 300
    deviation = math.sqrt(0.1**2 + spread["of_prompts"] ** 2 + spread["of_runs"] ** 2)
    missed = dict.fromkeys([(percent, side) for percent in PERCENTS for side in ("low", "high")], 0)
    for _ in range(repeats):
        values, units = gaps(rng, 5, runs, 60, **spread)
        found = percentiles(values, units, PERCENTS)
        for percent in PERCENTS:
            truth, each = deviation * norm.ppf(percent / 100), found[f"{percent:g}"]
            missed[percent, "low"] += each.low is not None and each.low > truth
            missed[percent, "high"] += each.high is not None and each.high < truth
    # 0.05 of 300 is 15, with a deviation of 3.8; the design effect is estimated, and that costs up to 2 %
    assert max(missed.values()) <= 0.07 * repeats + 2 * math.sqrt(repeats * 0.05 * 0.95), missed


def test_the_mean_of_units_is_students_of_their_means():
    found = mean_of_units([1.0, 3.0, 4.0, 6.0, 9.0], [0, 0, 1, 1, 2])
    assert (found.value, found.degrees) == (pytest.approx(16 / 3), 2)
    assert found.standard_error == pytest.approx(np.std([2, 5, 9], ddof=1) / math.sqrt(3))
    assert mean_of_units([1.0, 2.0], [0, 0]) is None
    assert mean_of_units([1.0, 1.0, 1.0], [0, 1, 2]) is None


def test_the_mean_of_units_misses_as_often_as_it_says():
    rng, missed = np.random.default_rng(3), 0
    for _ in range(1000):
        own = np.repeat(rng.normal(1, 0.05, 5), 4) + rng.normal(0, 0.05, 20)
        interval = mean_of_units(own.tolist(), np.repeat(np.arange(5), 4).tolist()).interval()
        missed += not interval.low <= 1 <= interval.high
    assert 75 <= missed <= 125  # 10 % of 1000
