import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from pytest_quantbench import stats
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.stats import Flips


def flipped(lost, gained, questions):
    return Flips(lost=lost, gained=gained, questions=questions)


def test_uniform_predictions_have_the_vocabulary_as_perplexity():
    assert stats.perplexity(np.full(100, math.log(2048), np.float32)) == pytest.approx(2048, rel=1e-6)


def test_a_perplexity_that_overflows_is_none():
    assert stats.perplexity(np.full(4, 1000.0)) is None


def test_published_unpaired_z_tests():
    """Three comparisons from published tables, recomputed (facts: statistics of the verdicts)."""
    for first, second, questions, z, p in (
        (0.299, 0.262, 164, 0.75, 0.46),
        (0.568, 0.521, 1319, 2.42, 0.015),
        (0.698, 0.691, 14000, 1.27, 0.20),
    ):
        got = stats.unpaired_z(first, second, questions)
        assert got[0] == pytest.approx(z, abs=0.01)
        assert got[1] == pytest.approx(p, abs=0.006)


def slow_tango(observed):
    """All Δ₀ of a fine grid whose score is within z, with p₂₁ found by maximising the likelihood on a grid itself."""
    n, b, c = observed.questions, observed.lost, observed.gained
    z = scipy_stats.norm.ppf(0.95)
    accepted = []
    for delta in np.linspace(-0.5, 0.5, 2001):
        p = np.linspace(max(0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9, 4001)  # of wrong → right; the other is p + Δ
        rest = n - b - c
        likelihood = b * np.log(np.maximum(p + delta, 1e-12)) + c * np.log(p) + rest * np.log(1 - 2 * p - delta)
        best = p[np.argmax(likelihood)]
        variance = n * (2 * best + delta * (1 - delta))
        if (b - c - n * delta) ** 2 <= z * z * variance:
            accepted.append(delta)
    return min(accepted), max(accepted)


@pytest.mark.parametrize("counts", [(12, 4, 200), (3, 3, 150), (0, 7, 200), (25, 0, 300), (1, 0, 100)])
def test_tango_agrees_with_a_grid_search_of_the_likelihood(counts):
    interval = stats.tango(flipped(*counts))
    low, high = slow_tango(flipped(*counts))
    assert interval.low == pytest.approx(low, abs=2e-3)
    assert interval.high == pytest.approx(high, abs=2e-3)


def test_tango_without_flips_is_wilsons_width_and_not_zero():
    """b = c = 0: T(Δ) = −√(nΔ/(1 − Δ))·sign, so the bound is z²/(n + z²)."""
    z = scipy_stats.norm.ppf(0.95)
    interval = stats.tango(flipped(0, 0, 200))
    assert interval.high == pytest.approx(z**2 / (200 + z**2), rel=1e-3)
    assert interval.low == pytest.approx(-interval.high, rel=1e-3)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(121, 2000))
def test_tango_is_antisymmetric_and_holds_its_estimate(lost, gained, questions):
    there, back = stats.tango(flipped(lost, gained, questions)), stats.tango(flipped(gained, lost, questions))
    assert there.low <= there.estimate <= there.high
    assert there.low == pytest.approx(-back.high, abs=1e-9)
    assert -1 <= there.low < there.high <= 1


@pytest.mark.parametrize(("accuracy", "flip_rate", "drop"), [(0.75, 0.12, 0.03), (0.95, 0.05, 0.0), (0.3, 0.2, 0.06)])
def test_tango_covers_as_often_as_it_says(accuracy, flip_rate, drop):
    """Each side misses at most 5 % of the time, within the noise of 1,500 draws."""
    rng = np.random.default_rng(1)
    chances = [(flip_rate + drop) / 2, (flip_rate - drop) / 2]
    too_low = too_high = 0
    for lost, gained, _ in rng.multinomial(200, [*chances, 1 - sum(chances)], size=1500):
        interval = stats.tango(flipped(int(lost), int(gained), 200))
        too_low += interval.high < drop
        too_high += interval.low > drop
    assert max(too_low, too_high) / 1500 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)


def test_mcnemar_is_the_exact_binomial():
    assert stats.mcnemar_p(flipped(8, 2, 100)) == pytest.approx(2 * sum(math.comb(10, k) for k in (0, 1, 2)) / 2**10)
    assert stats.mcnemar_p(flipped(0, 0, 100)) == 1.0


def test_flips_count_each_direction_and_refuse_other_lengths():
    reference, quantized = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert stats.flips(reference, quantized) == flipped(1, 1, 4)
    with pytest.raises(ComparisonError, match="3 quantized answers against 4"):
        stats.flips(reference, quantized[:3])
    with pytest.raises(ComparisonError):
        stats.flips(reference[:0], quantized[:0])


def test_detectable_drops_of_the_facts_sheet():
    """n = 1,000: about 2 points paired at 5 % flips (two-sided there, one-sided here), 5 to 6 unpaired at 0.75."""
    assert 100 * stats.detectable_drop(0.05, 1000) == pytest.approx(1.76, abs=0.02)
    assert 5 < 100 * stats.detectable_drop_unpaired(0.75, 1000) < 6


def slow_mean_interval(values, block):
    """Block means one by one, for a length that blocks divide: then sums and means say the same."""
    means = [float(np.mean(values[start : start + block])) for start in range(0, len(values), block)]
    half = scipy_stats.t.ppf(0.95, len(means) - 1) * np.std(means, ddof=1) / math.sqrt(len(means))
    return np.mean(means) - half, np.mean(means) + half


@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_block_intervals_agree_with_block_means(blocks, seed):
    values = np.random.default_rng(seed).standard_normal(64 * blocks)
    interval = stats.mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx(slow_mean_interval(values, 64), abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(0, 63))
def test_block_intervals_ignore_the_order_within_a_block_and_use_the_remainder(seed, extra):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(640 + extra)
    shuffled = values.copy()
    rng.shuffle(shuffled[64:128])
    one, other = stats.mean_interval(values), stats.mean_interval(shuffled)
    assert one.estimate == pytest.approx(values.mean())
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_one_block_says_nothing():
    assert stats.mean_interval(np.ones(127)) is None
    assert stats.perplexity_delta(np.ones(127), np.ones(127)) is None


def test_perplexity_delta_needs_the_same_tokens():
    with pytest.raises(ComparisonError):
        stats.perplexity_delta(np.ones(200), np.ones(199))


def test_perplexity_delta_is_the_delta_methods():
    """Against a bootstrap over blocks, on data whose tokens depend on each other."""
    rng = np.random.default_rng(3)
    reference = np.abs(correlated(rng, 64 * 400, 0.5)) + 1
    quantized = reference + 0.05 + 0.1 * correlated(rng, 64 * 400, 0.5)
    interval = stats.perplexity_delta(reference, quantized)
    blocks = np.stack([reference, quantized]).reshape(2, 400, 64)
    draws = [np.exp(blocks[:, rng.integers(0, 400, 400)].mean(axis=(1, 2))) for _ in range(2000)]
    low, high = np.quantile([q - r for r, q in draws], [0.05, 0.95])
    assert interval.low == pytest.approx(low, rel=0.08)
    assert interval.high == pytest.approx(high, rel=0.08)


def correlated(rng, length, strength):
    noise = rng.standard_normal(length)
    for index in range(1, length):
        noise[index] = strength * noise[index - 1] + math.sqrt(1 - strength**2) * noise[index]
    return noise


def test_perplexity_intervals_miss_as_rarely_as_they_say():
    """Eight blocks, as 512 tokens give: the mean difference is missed on each side at most 5 % of the time."""
    rng = np.random.default_rng(5)
    missed = [0, 0]
    for _ in range(600):
        interval = stats.mean_interval(correlated(rng, 512, 0.5))
        missed[0] += interval.low > 0
        missed[1] += interval.high < 0
    assert max(missed) / 600 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


@settings(max_examples=30)
@given(st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_rate_ratio_is_exact_on_scaled_rates_and_symmetric(scale, seed):
    rates = np.random.default_rng(seed).uniform(5, 50, 15)
    runs = [(index % 5, float(rate)) for index, rate in enumerate(rates)]
    faster = [(prompt, scale * rate) for prompt, rate in runs]
    ratio, prompts = stats.rate_ratio(runs, faster)
    assert prompts == 5
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((scale, scale, scale))


def test_rate_ratio_needs_two_prompts():
    assert stats.rate_ratio([(0, 1.0), (0, 2.0)], [(0, 3.0)]) == (None, 1)


def test_items_needed_follows_the_square_root_law():
    assert stats.items_needed(200, half_width=2.0, gap=1.0) == 800
    assert stats.items_needed(200, half_width=2.0, gap=-1.0) == 800
    assert stats.items_needed(200, half_width=2.0, gap=0.0) is None
