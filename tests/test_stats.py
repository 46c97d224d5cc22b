"""Means of dependent series, perplexities and ratios, against slow readings of their definitions and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.signal import lfilter

from pytest_quantbench import stats
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.stats import Blocks


def correlated(rng, length, strength):
    """(length,) first-order autoregressive noise of variance 1."""
    noise = rng.standard_normal(length + 200)
    return lfilter([math.sqrt(1 - strength**2)], [1, -strength], noise)[200:]


def test_uniform_predictions_have_the_vocabulary_as_perplexity():
    assert stats.perplexity(np.full(100, math.log(2048), np.float32)) == pytest.approx(2048, rel=1e-6)


def test_a_perplexity_that_overflows_is_none():
    assert stats.perplexity(np.full(4, 1000.0)) is None


def slow_mean_interval(values, block):
    """Block means one by one, for a length that blocks divide: then sums and means say the same."""
    means = [float(np.mean(values[start : start + block])) for start in range(0, len(values), block)]
    half = scipy_stats.t.ppf(0.95, len(means) - 1) * np.std(means, ddof=1) / math.sqrt(len(means))
    return np.mean(means) - half, np.mean(means) + half


@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_block_intervals_agree_with_block_means(blocks, seed):
    values = np.random.default_rng(seed).standard_normal(64 * blocks)
    interval = stats.mean(values, Blocks(correlation_tokens=0.0)).interval()
    assert (interval.low, interval.high) == pytest.approx(slow_mean_interval(values, 64), abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(0, 63))
def test_block_intervals_ignore_the_order_within_a_block_and_use_the_remainder(seed, extra):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(640 + extra)
    shuffled = values.copy()
    rng.shuffle(shuffled[64:128])
    one, other = stats.mean(values, Blocks()), stats.mean(shuffled, Blocks())
    assert one.value == pytest.approx(values.mean())
    assert one.standard_error == pytest.approx(other.standard_error)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_the_correlation_time_of_autoregressive_noise(strength):
    rng = np.random.default_rng(1)
    found = np.mean([stats.correlation_tokens(correlated(rng, 8192, strength)) for _ in range(20)])
    assert found == pytest.approx((1 + strength) / (1 - strength), rel=0.2)


def test_blocks_grow_with_the_dependence_as_far_as_eight_are_left():
    rng = np.random.default_rng(2)
    assert stats.blocks_for(rng.standard_normal(8192)).tokens == 64
    assert 64 < stats.blocks_for(correlated(rng, 8192, 0.95)).tokens <= 1024
    assert stats.blocks_for(correlated(rng, 512, 0.95)).tokens == 64


@pytest.mark.parametrize("values", [np.ones(127), np.ones(640), np.full(640, 0.1), np.zeros(640)])
def test_one_block_or_no_spread_says_nothing(values):
    assert stats.mean(values) is None
    assert stats.perplexity_delta(values, values)[0] is None


def test_nan_is_an_error():
    with pytest.raises(ComparisonError, match="NaN"):
        stats.mean(np.array([1.0, np.nan] * 100))


def test_perplexity_delta_needs_the_same_tokens():
    with pytest.raises(ComparisonError):
        stats.perplexity_delta(np.ones(200), np.ones(199))


def test_perplexity_delta_is_the_delta_methods():
    """Against a bootstrap over blocks, on data whose tokens depend on each other."""
    rng = np.random.default_rng(3)
    reference = np.abs(correlated(rng, 64 * 400, 0.5)) + 1
    quantized = reference + 0.05 + 0.1 * correlated(rng, 64 * 400, 0.5)
    interval = stats.perplexity_delta(reference, quantized)[0].interval()
    blocks = np.stack([reference, quantized]).reshape(2, 400, 64)
    draws = [np.exp(blocks[:, rng.integers(0, 400, 400)].mean(axis=(1, 2))) for _ in range(2000)]
    low, high = np.quantile([q - r for r, q in draws], [0.05, 0.95])
    assert interval.low == pytest.approx(low, rel=0.08)
    assert interval.high == pytest.approx(high, rel=0.08)


@pytest.mark.parametrize(("tokens", "strength"), [(512, 0.5), (2048, 0.9), (8192, 0.9)])
def test_means_are_missed_as_rarely_as_they_say(tokens, strength):
    """On each side at most 5 % of the time, within the noise of 600 draws."""
    rng = np.random.default_rng(5)
    missed = [0, 0]
    for _ in range(600):
        interval = stats.mean(correlated(rng, tokens, strength)).interval()
        missed[0] += interval.low > 0
        missed[1] += interval.high < 0
    assert max(missed) / 600 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_a_distribution_has_its_mean_and_percentiles():
    values = np.arange(1001) / 1000
    mean, percentiles = stats.distribution(values)
    assert mean.value == pytest.approx(0.5)
    assert dict(percentiles) == pytest.approx({50.0: 0.5, 90.0: 0.9, 99.0: 0.99, 99.9: 0.999})


@settings(max_examples=30)
@given(st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_rate_ratio_is_equivariant_to_scale(scale, seed):
    rng = np.random.default_rng(seed)
    runs, others = ([(index % 5, float(rate)) for index, rate in enumerate(rng.uniform(5, 50, 15))] for _ in range(2))
    plain = stats.rate_ratio(runs, others).interval()
    scaled = stats.rate_ratio(runs, [(prompt, scale * rate) for prompt, rate in others]).interval()
    assert (scaled.low, scaled.high) == pytest.approx((scale * plain.low, scale * plain.high))


def test_rate_ratio_needs_two_prompts_and_a_spread():
    assert stats.rate_ratio([(0, 1.0), (0, 2.0)], [(0, 3.0)]) is None
    assert stats.rate_ratio([(0, 1.0), (1, 2.0)], [(0, 2.0), (1, 4.0)]) is None


def test_items_needed_follows_the_square_root_law():
    interval = scipy_interval(1.0, 2.0)
    assert stats.items_needed(200, interval, 0.0) == 800
    assert stats.items_needed(200, interval, 2.0) == 800
    assert stats.items_needed(200, interval, 1.0) is None


def scipy_interval(estimate, half):
    return stats.Interval(estimate=estimate, low=estimate - half, high=estimate + half)


def test_holm_of_a_worked_example():
    """Four p values: 4 × the smallest, 3 × the next, 2 × the third, and never less than the one before."""
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]
