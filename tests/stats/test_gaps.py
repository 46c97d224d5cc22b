"""Gaps between tokens: what is told of them, and ratios of their percentiles, by hand and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.stats.gaps import FEWEST_BEYOND, gap_ratios, spread

TOKENS = 63  # gaps of a run


def sessions(seed, *, ratio=1.0, runs=15, together=0.1, apart=0.03):
    """Runs of a model and of its reference, each pair of them slowed alike by `together`, and by `apart` each."""
    rng = np.random.default_rng(seed)

    def one(slowed):
        return np.exp(slowed + apart * rng.standard_normal() + 0.2 * rng.standard_normal(TOKENS))

    pairs = [(one(load), one(load)) for load in together * rng.standard_normal(runs)]
    return [ratio * own for own, _ in pairs], [reference for _, reference in pairs]


def test_the_spread_is_that_of_all_values():
    found = spread([np.array([1.0, 2.0]), np.array([6.0])])
    assert (found.mean, found.deviation, found.least, found.most, found.count) == (3.0, pytest.approx(7**0.5), 1, 6, 3)
    assert spread([np.array([2.0])]).deviation is None
    assert spread([]) is spread([np.zeros(0)]) is None


def test_the_estimate_is_the_quotient_of_what_is_told_of_each():
    own, reference = sessions(1, ratio=0.5)
    found = gap_ratios(own, reference, paired=True)
    assert list(found) == ["50", "90", "95", "99", "99.9", "mean"]
    whole = np.concatenate(own), np.concatenate(reference)
    for name, ratio in found.items():
        told = [each.mean() if name == "mean" else np.percentile(each, float(name)) for each in whole]
        assert ratio.estimate == pytest.approx(told[0] / told[1])
        assert ratio.confidence == 0.9
    assert found["50"].low < 0.5 < found["50"].high
    assert found["50"].high / found["50"].low < 1.1  # what slowed both of a pair is no part of it


def test_the_same_gaps_give_the_same_interval_and_a_smaller_alpha_a_wider_one():
    own, reference = sessions(2)
    first, again = (gap_ratios(own, reference, paired=True) for _ in range(2))
    assert first == again
    sure = gap_ratios(own, reference, paired=True, alpha=0.005)
    assert sure["90"].low < first["90"].low < first["90"].high < sure["90"].high
    assert sure["90"].confidence == 0.99


def test_runs_that_did_not_stand_beside_each_other_tell_less():
    own, reference = sessions(3)
    paired, not_paired = (gap_ratios(own, reference, paired=each)["50"] for each in (True, False))
    assert not_paired.estimate == paired.estimate
    assert not_paired.high / not_paired.low > paired.high / paired.low
    other = gap_ratios(own, reference[:7], paired=True)["50"]  # not as many: no pairs
    assert other.low < other.estimate < other.high


def test_ends_that_nothing_is_known_of_are_left_open():
    own, reference = sessions(4)
    found = gap_ratios(own, reference, paired=True)
    beyond = {name: len(own) * TOKENS * (1 - float(name) / 100) for name in found if name != "mean"}
    assert {name for name, each in found.items() if each.low is None} == {
        name for name, gaps in beyond.items() if gaps < FEWEST_BEYOND
    }
    few = gap_ratios(own[:2], reference[:2], paired=True)
    assert all((each.low, each.high) == (None, None) for each in few.values())
    assert gap_ratios([], reference, paired=True) == gap_ratios(own, [np.zeros(0)], paired=True) == {}
    assert gap_ratios([np.zeros(9)] * 5, reference, paired=False) == {}


def test_how_often_it_misses():
    """Nominally 10 %, of 150 sessions; the spread of independent gaps would miss in most of them."""
    found = [gap_ratios(*sessions(seed, apart=0.05), paired=True) for seed in range(150)]
    for name in ("50", "90", "mean"):
        assert np.mean([not each[name].low < 1 < each[name].high for each in found]) <= 0.15


@given(st.integers(0, 50), st.floats(0.1, 10), st.booleans())
def test_a_factor_on_every_gap_is_one_on_the_ratio(seed, factor, paired):
    own, reference = sessions(seed, runs=6)
    before = gap_ratios(own, reference, paired=paired, percents=(50.0,))["50"]
    after = gap_ratios([factor * run for run in own], reference, paired=paired, percents=(50.0,))["50"]
    assert [after.estimate, after.low, after.high] == pytest.approx(
        [factor * before.estimate, factor * before.low, factor * before.high]
    )
