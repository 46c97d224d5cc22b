"""Paired and single proportions against slow readings of their definitions, known answers and simulation."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.stats import proportions
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.proportions import (
    Flips,
    above_chance_p,
    detectable_drop_unpaired,
    flips,
    mcnemar_p,
    share_of,
    unpaired_z,
    wilson,
)
from pytest_quantbench.stats.window_sampling import Drawn, order


def flipped(lost, gained, questions):
    return Flips(lost=lost, gained=gained, questions=questions)


def test_published_unpaired_z_tests():
    """Three comparisons from published tables, recomputed (facts: statistics of the verdicts)."""
    for first, second, questions, z, p in (
        (0.299, 0.262, 164, 0.75, 0.46),
        (0.568, 0.521, 1319, 2.42, 0.015),
        (0.698, 0.691, 14000, 1.27, 0.20),
    ):
        got = unpaired_z(first, second, questions)
        assert got[0] == pytest.approx(z, abs=0.01)
        assert got[1] == pytest.approx(p, abs=0.006)


def slow_tango(observed, correction):
    """All Δ₀ of a fine grid whose score is within z, with p₂₁ found by maximising the likelihood on a grid itself."""
    n, b, c = observed.questions, observed.lost, observed.gained
    z = norm.ppf(0.95)
    accepted = []
    for delta in np.linspace(-0.5, 0.5, 2001):
        p = np.linspace(max(0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9, 4001)  # of wrong → right; the other is p + Δ
        rest = n - b - c
        likelihood = b * np.log(np.maximum(p + delta, 1e-12)) + c * np.log(p) + rest * np.log(1 - 2 * p - delta)
        best = p[np.argmax(likelihood)]
        variance = n * (2 * best + delta * (1 - delta))
        if max(abs(b - c - n * delta) - correction, 0) ** 2 <= z * z * variance:
            accepted.append(delta)
    return min(accepted), max(accepted)


@pytest.mark.parametrize("counts", [(12, 4, 200), (3, 3, 150), (0, 7, 200), (25, 0, 300), (1, 0, 100)])
@pytest.mark.parametrize("correction", [0.0, 0.5])
def test_tango_agrees_with_a_grid_search_of_the_likelihood(counts, correction, monkeypatch):
    monkeypatch.setattr(proportions, "CONTINUITY", correction)
    interval = flipped(*counts).interval()
    low, high = slow_tango(flipped(*counts), correction)
    assert interval.low == pytest.approx(100 * low, abs=0.2)
    assert interval.high == pytest.approx(100 * high, abs=0.2)


def test_tango_without_flips_is_wilsons_width_and_not_zero(monkeypatch):
    """b = c = 0: T(Δ) = −√(nΔ/(1 − Δ))·sign, so the bound is z²/(n + z²), and wider with half a question taken off."""
    corrected = flipped(0, 0, 200).interval()
    monkeypatch.setattr(proportions, "CONTINUITY", 0.0)
    z = norm.ppf(0.95)
    interval = flipped(0, 0, 200).interval()
    assert interval.high == pytest.approx(100 * z**2 / (200 + z**2), rel=1e-3)
    assert interval.low == pytest.approx(-interval.high, rel=1e-3)
    assert interval.high < corrected.high < interval.high + 0.5


def chance_of_deciding(questions, rate, drop):
    """Exactly, over all outcomes that can be: the chances of pass and fail where the truth is on the limit."""
    lost, gained = (rate + drop) / 2, (rate - drop) / 2
    chances, most = {"pass": 0.0, "fail": 0.0}, int(questions * rate + 9 * math.sqrt(questions * rate))
    for b in range(most + 1):
        weight = binom.pmf(b, questions, lost)
        if weight < 1e-9:
            continue
        for c in range(most + 1 - b):
            probability = weight * binom.pmf(c, questions - b, gained / (1 - lost))
            observed = flipped(b, c, questions)
            chances["pass"] += probability * (observed.p_below(100 * drop) < 0.05)
            chances["fail"] += probability * (observed.p_above(100 * drop) < 0.05)
    return chances


@pytest.mark.parametrize(("rate", "drop"), [(0.02, 0.01), (0.04, 0.03), (0.06, 0.03), (0.12, 0.03)])
def test_at_the_limit_it_decides_wrongly_at_most_as_often_as_it_says(rate, drop):
    chances = chance_of_deciding(200, rate, drop)
    assert max(chances.values()) <= 0.05
    assert min(chances.values()) > 0.01


@given(st.integers(0, 60), st.integers(0, 60), st.integers(121, 2000))
def test_tango_is_antisymmetric_and_holds_its_estimate(lost, gained, questions):
    there, back = flipped(lost, gained, questions).interval(), flipped(gained, lost, questions).interval()
    assert there.low <= there.estimate <= there.high
    assert there.low == pytest.approx(-back.high, abs=1e-7)
    assert -100 <= there.low < there.high <= 100


@pytest.mark.parametrize(("accuracy", "flip_rate", "drop"), [(0.75, 0.12, 0.03), (0.95, 0.05, 0.0), (0.3, 0.2, 0.06)])
def test_tango_covers_as_often_as_it_says(accuracy, flip_rate, drop):
    """Each side misses at most 5 % of the time, within the noise of 1,500 draws."""
    rng = np.random.default_rng(1)
    chances = [(flip_rate + drop) / 2, (flip_rate - drop) / 2]
    too_low = too_high = 0
    for lost, gained, _ in rng.multinomial(200, [*chances, 1 - sum(chances)], size=1500):
        interval = flipped(int(lost), int(gained), 200).interval()
        too_low += interval.high < 100 * drop
        too_high += interval.low > 100 * drop
    assert max(too_low, too_high) / 1500 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)


def test_mcnemar_is_the_exact_binomial():
    assert mcnemar_p(flipped(8, 2, 100)) == pytest.approx(2 * sum(math.comb(10, k) for k in (0, 1, 2)) / 2**10)
    assert mcnemar_p(flipped(0, 0, 100)) == 1.0


def test_flips_count_each_direction_and_refuse_other_lengths():
    reference, quantized = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert flips(reference, quantized) == flipped(1, 1, 4)
    with pytest.raises(ComparisonError, match="3 quantized answers against 4"):
        flips(reference, quantized[:3])
    with pytest.raises(ComparisonError):
        flips(reference[:0], quantized[:0])


def test_detectable_drops_of_the_facts_sheet():
    """n = 1,000: about 2 points paired at 5 % flips (two-sided there, one-sided here), 5 to 6 unpaired at 0.75."""
    assert flipped(25, 25, 1000).detectable(0.0) == pytest.approx(1.76, abs=0.02)
    assert 5 < detectable_drop_unpaired(0.75, 1000) < 6
    assert flipped(0, 0, 1000).detectable(0.0) > 0


@given(st.integers(0, 60), st.integers(0, 60), st.integers(121, 2000), st.floats(0.001, 0.4))
def test_an_interval_ends_where_its_p_value_is_alpha(lost, gained, questions, alpha):
    observed = flipped(lost, gained, questions)
    interval = observed.interval(alpha)
    assert observed.p_below(interval.high) == pytest.approx(alpha, rel=1e-3)
    assert observed.p_above(interval.low) == pytest.approx(alpha, rel=1e-3)
    wider = observed.interval(alpha / 2)
    assert wider.low <= interval.low <= interval.high <= wider.high


def test_wilsons_interval_solves_its_own_equation():
    for hits, trials in ((0, 5), (3, 5), (980, 1000)):
        interval, z = wilson(hits, trials), norm.ppf(0.95)
        for end in (interval.low, interval.high):
            assert (hits / trials - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / trials, abs=1e-12)
    with pytest.raises(ComparisonError):
        wilson(0, 0)


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (3, 5), (5, 5), (980, 1000)])
def test_wilsons_interval_of_whole_trials_is_scipys(hits, trials):
    found = binomtest(hits, trials).proportion_ci(confidence_level=0.9, method="wilson")
    ours = wilson(hits, trials)
    assert (ours.low, ours.high) == pytest.approx((found.low, found.high), abs=1e-12)


@pytest.mark.parametrize("degrees", [None, 0.5])
def test_where_all_flipped_or_nothing_is_known_an_interval_reaches_the_end(degrees):
    assert Flips(lost=9, gained=0, questions=9, degrees=degrees).interval().high == 100
    assert Flips(lost=0, gained=9, questions=9, degrees=degrees).interval().low == -100
    unknown = Flips(lost=1, gained=0, questions=9, degrees=0.5).interval()
    assert (unknown.low, unknown.high) == (-100, 100)


def test_guessing_is_the_binomial_tail():
    assert above_chance_p(0, 10, 0.25) == pytest.approx(1)
    assert above_chance_p(10, 10, 0.25) == pytest.approx(0.25**10)
    assert above_chance_p(2, 3, 0.5) == pytest.approx(0.5)


def test_the_questions_that_a_point_takes_are_those_that_find_it():
    """At 6 % flips: simulated power of the corrected test is near 80 % with that many questions."""
    questions = flipped(33, 27, 1000).questions_for(1.0)
    assert questions == pytest.approx(0.06 * (1.645 + 0.842) ** 2 / 1e-4, rel=0.01)
    draws = np.random.default_rng(0).multinomial(questions, [0.035, 0.025, 0.94], 2000)
    found = [flipped(int(b), int(c), questions).p_above(0.0) < 0.05 for b, c, _ in draws]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_the_share_of_dependent_tokens_is_less_sure_than_of_independent_ones():
    """All tokens of a window alike: as many trials as windows, and not as tokens."""
    rng = np.random.default_rng(0)
    windows = rng.random(64) < 0.8
    drawn = Drawn(population=10**6, tokens=16, begins=16 * np.arange(64), counts=np.full(64, 16))
    found = share_of(np.repeat(windows, 16), drawn)
    alone = wilson(int(windows.sum()), 64)
    assert found.estimate == pytest.approx(alone.estimate)
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.05)
    independent = share_of(rng.random(1024) < 0.8, drawn)
    assert independent.high - independent.low < 0.4 * (found.high - found.low)


def test_a_share_of_all_of_a_text_is_exact_and_one_without_exceptions_is_not_certain():
    whole = Drawn(population=4, tokens=16, begins=16 * np.arange(4), counts=np.full(4, 16))
    hits = np.arange(64) < 40
    assert share_of(hits, whole) == Interval(estimate=0.625, low=0.625, high=0.625, confidence=1.0)
    some = dataclasses.replace(whole, population=1000)
    assert share_of(np.ones(64, bool), some).low < 1


def test_the_interval_of_a_share_covers_as_often_as_it_says_where_tokens_are_alike():
    rng, missed = np.random.default_rng(0), 0
    for _ in range(400):
        text = np.repeat(rng.random(400) < 0.7, 16)
        chosen = order(400, int(rng.integers(10**6)))[:32]
        drawn = Drawn(population=400, tokens=16, begins=16 * chosen, counts=np.full(32, 16))
        found = share_of(text[drawn.scored()], drawn)
        missed += not found.low <= text.mean() <= found.high
    assert missed / 400 < 0.10 + 3 * np.sqrt(0.09 / 400)
