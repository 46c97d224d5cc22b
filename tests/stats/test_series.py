"""Means of dependent series, perplexities and ratios, against slow readings of their definitions and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.signal import lfilter

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import Exact, Interval, Student
from pytest_quantbench.stats.series import Blocks
from pytest_quantbench.stats.window_sampling import Drawn, order


def correlated(rng, length, strength):
    """(length,) first-order autoregressive noise of variance 1."""
    noise = rng.standard_normal(length + 200)
    return lfilter([math.sqrt(1 - strength**2)], [1, -strength], noise)[200:]


def test_uniform_predictions_have_the_vocabulary_as_perplexity():
    assert series.perplexity(np.full(100, math.log(2048), np.float32)) == pytest.approx(2048, rel=1e-6)


def test_a_perplexity_that_overflows_is_none():
    assert series.perplexity(np.full(4, 1000.0)) is None


def slow_mean_interval(values, block):
    """Block means one by one, for a length that blocks divide: then sums and means say the same."""
    means = [float(np.mean(values[start : start + block])) for start in range(0, len(values), block)]
    half = scipy_stats.t.ppf(0.95, len(means) - 1) * np.std(means, ddof=1) / math.sqrt(len(means))
    return np.mean(means) - half, np.mean(means) + half


@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_block_intervals_agree_with_block_means(blocks, seed):
    values = np.random.default_rng(seed).standard_normal(64 * blocks)
    interval = series.mean(values, Blocks(correlation_tokens=0.0)).interval()
    assert (interval.low, interval.high) == pytest.approx(slow_mean_interval(values, 64), abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(0, 63))
def test_block_intervals_ignore_the_order_within_a_block_and_use_the_remainder(seed, extra):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(640 + extra)
    shuffled = values.copy()
    rng.shuffle(shuffled[64:128])
    one, other = series.mean(values, Blocks()), series.mean(shuffled, Blocks())
    assert one.value == pytest.approx(values.mean())
    assert one.standard_error == pytest.approx(other.standard_error)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_the_correlation_time_of_autoregressive_noise(strength):
    rng = np.random.default_rng(1)
    found = np.mean([series.correlation_tokens(correlated(rng, 8192, strength)) for _ in range(20)])
    assert found == pytest.approx((1 + strength) / (1 - strength), rel=0.2)


def test_blocks_grow_with_the_dependence_as_far_as_eight_are_left():
    rng = np.random.default_rng(2)
    assert series.blocks_for(rng.standard_normal(8192)).tokens == 64
    assert 64 < series.blocks_for(correlated(rng, 8192, 0.95)).tokens <= 1024
    assert series.blocks_for(correlated(rng, 512, 0.95)).tokens == 64


@pytest.mark.parametrize("values", [np.ones(127), np.ones(640), np.full(640, 0.1), np.zeros(640)])
def test_one_block_or_no_spread_says_nothing(values):
    assert series.mean(values) is None
    assert series.perplexity_delta(values, values)[0] is None


def test_nan_is_an_error():
    with pytest.raises(ComparisonError, match="NaN"):
        series.mean(np.array([1.0, np.nan] * 100))


def test_perplexity_delta_needs_the_same_tokens():
    with pytest.raises(ComparisonError):
        series.perplexity_delta(np.ones(200), np.ones(199))


def test_perplexity_delta_is_the_delta_methods():
    """Against a bootstrap over blocks, on data whose tokens depend on each other."""
    rng = np.random.default_rng(3)
    reference = np.abs(correlated(rng, 64 * 400, 0.5)) + 1
    quantized = reference + 0.05 + 0.1 * correlated(rng, 64 * 400, 0.5)
    interval = series.perplexity_delta(reference, quantized)[0].interval()
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
        interval = series.mean(correlated(rng, tokens, strength)).interval()
        missed[0] += interval.low > 0
        missed[1] += interval.high < 0
    assert max(missed) / 600 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_a_distribution_has_its_mean_and_percentiles():
    values = np.arange(1001) / 1000
    mean, percentiles = series.distribution(values)
    assert mean.value == pytest.approx(0.5)
    assert dict(percentiles) == pytest.approx({50.0: 0.5, 90.0: 0.9, 99.0: 0.99, 99.9: 0.999})


def test_items_needed_follows_the_square_root_law():
    interval = scipy_interval(1.0, 2.0)
    assert series.items_needed(200, interval, 0.0) == 800
    assert series.items_needed(200, interval, 2.0) == 800
    assert series.items_needed(200, interval, 1.0) is None


def scipy_interval(estimate, half):
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)


def test_holm_of_a_worked_example():
    """Four p values: 4 × the smallest, 3 × the next, 2 × the third, and never less than the one before."""
    assert series.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert series.holm([]) == []
    assert series.holm([0.9, 0.8]) == [1.0, 1.0]


def drawn_of(counts, population):
    counts = np.asarray(counts)
    return Drawn(population=population, tokens=int(counts.max()), begins=np.cumsum(counts) - counts, counts=counts)


def test_the_variance_of_a_sample_of_windows_is_right_over_all_samples():
    """Every sample of 3 of 7 windows: their estimated variances have the true variance of their means as mean."""
    windows = np.random.default_rng(0).normal(size=(7, 5)) + np.arange(7)[:, None]
    samples = [windows[list(chosen)] for chosen in itertools.combinations(range(7), 3)]
    means = [sample.mean() for sample in samples]
    estimates = [series.mean(sample.ravel(), drawn_of([5, 5, 5], 7)) for sample in samples]
    assert np.mean([each.standard_error**2 for each in estimates]) == pytest.approx(np.var(means))
    assert {each.degrees for each in estimates} == {2}
    np.testing.assert_allclose([each.value for each in estimates], means)


def test_windows_of_different_length_are_a_ratio_of_sums():
    """Cochran 1977, chapter 6: residuals of sums from what their lengths make expected."""
    counts, values = np.array([4, 2, 3]), np.array([1.0, 2, 3, 4, 10, 12, 1, 1, 4])
    sums = np.array([10, 22, 6.0])
    residuals = sums - sums.sum() / 9 * counts
    error = np.sqrt(3 * (1 - 3 / 10) * (residuals**2).sum() / 2) / 9
    found = series.mean(values, drawn_of(counts, 10))
    assert (found.value, found.standard_error) == (pytest.approx(38 / 9), pytest.approx(error))


def test_all_windows_are_exact_and_one_says_nothing():
    values = np.arange(12.0)
    assert series.mean(values, drawn_of([4, 4, 4], 3)) == Exact(value=5.5)
    assert series.mean(values, drawn_of([12], 3)) is None
    estimate, cut = series.perplexity_delta(np.log(values + 2), np.log(values + 3), drawn_of([4, 4, 4], 3))
    ppl = [np.exp(np.log(values + shift).mean()) for shift in (3, 2)]
    assert estimate == Exact(value=pytest.approx(ppl[0] - ppl[1]))
    assert cut.tokens == 4


def test_windows_see_what_is_alike_over_long_stretches_and_blocks_do_not():
    """Losses that change every 4,096 tokens: the error of 4,096 in a row is hidden from their own blocks."""
    rng = np.random.default_rng(1)
    text = np.repeat(rng.normal(size=40), 4096) + rng.normal(size=40 * 4096)
    blind = series.mean(text[:4096])
    drawn = Drawn(population=2560, tokens=64, begins=64 * order(2560, 0)[:64], counts=np.full(64, 64))
    seeing = series.mean(text[drawn.scored()], drawn)
    assert blind.standard_error < 0.03 < 0.1 < seeing.standard_error
    assert abs(seeing.value - text.mean()) < 3 * seeing.standard_error


def test_items_that_would_settle_it_are_never_more_than_there_are():
    interval = Interval(estimate=1.0, low=0.5, high=1.5)
    assert series.items_needed(100, interval, 1.25) == 400
    assert series.items_needed(100, interval, 1.25, whole=10**9) == 400
    assert series.items_needed(100, interval, 1.25, whole=400) == 229  # 1/400 + (1/100 - 1/400) / 4
    assert series.items_needed(100, interval, 1.0, whole=400) == 400
    assert series.items_needed(100, interval, 1.0) is None


def test_a_unigram_model_is_left_one_out():
    """Of a a b c: the two that occur once make up half, which goes to all of 4 words alike."""
    expected = [0.5 * 1 / 3 + 0.5 / 4] * 2 + [0.5 / 4] * 2
    np.testing.assert_allclose(series.unigram_nats(np.array([0, 0, 1, 2]), 4), -np.log(expected))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_what_a_unigram_model_gives_adds_up_to_one(text):
    """Whichever token is left out, the probabilities of all that could stand there sum to at most one."""
    counts = np.bincount(text, minlength=6)
    unseen = max(1, int((counts == 1).sum())) / len(text)
    losses = series.unigram_nats(np.array(text), 6)
    assert np.isfinite(losses).all()
    for place, token in enumerate(text):
        rest = counts - np.eye(6, dtype=int)[token]
        share = np.exp(-losses[place])
        assert share == pytest.approx((1 - unseen) * rest[token] / max(1, len(text) - 1) + unseen / 6)


def test_a_unigram_model_is_as_good_as_the_entropy_of_its_words():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(200, 0.3))
    losses = series.unigram_nats(rng.choice(200, 50_000, p=shares), 200)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum()
    assert losses.mean() == pytest.approx(entropy, abs=0.02)


def test_a_quotient_of_means_has_the_errors_of_both():
    above, below = [1.8, 2.2, 1.9, 2.1], [3.9, 4.0, 4.1]
    found = series.quotient(above, [0, 1, 2, 3], below)
    errors = [np.std(each, ddof=1) / math.sqrt(len(each)) / np.mean(each) for each in (above, below)]
    assert found.value == pytest.approx(0.5)
    assert isinstance(found.logarithm, Student)
    assert found.logarithm.standard_error == pytest.approx(math.hypot(*errors))
    assert found.logarithm.degrees == 2  # of the three that are fewer
    assert series.quotient([2.0, 2.0], [0, 1], [4.0, 4.0]).interval().high == 0.5  # neither has any


def test_an_interval_of_a_quotient_misses_as_often_as_it_should():
    rng, trials = np.random.default_rng(0), 1000
    units, missed = np.repeat(np.arange(5), 3), 0
    for _ in range(trials):
        found = series.quotient(rng.normal(2, 0.2, 15), units, rng.normal(4, 0.8, 17)).interval(0.05)
        missed += not found.low < 0.5 < found.high
    assert missed / trials < 0.10 + 3 * math.sqrt(0.1 * 0.9 / trials)
