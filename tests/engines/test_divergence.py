"""Divergences from what is kept of the distributions against the full sums in float64."""

import math
from dataclasses import fields

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_like_logits import compact, log_probabilities, quick_kl, text_like

from pytest_quantbench.engines import divergence, logits
from pytest_quantbench.engines.divergence import Distributions, joined
from pytest_quantbench.engines.logits import HostLogits
from pytest_quantbench.engines.mlx.logits import DeviceLogits


def slow_kl(first, second):
    """Σ p log(p / q) over the whole vocabulary, position by position."""
    rows = zip(log_probabilities(first), log_probabilities(second), strict=True)
    return np.array([math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)) for p, q in rows])


def pairs(seed, positions=20, vocabulary=1000, spread=2.0, noise=0.3):
    rng = np.random.default_rng(seed)
    first = spread * rng.standard_normal((positions, vocabulary))
    return first.astype(np.float32), (first + noise * rng.standard_normal(first.shape)).astype(np.float32)


def compared(first, second, place=0):
    return HostLogits(second).against(compact(first, place))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 6), st.floats(0.0, 2))
def test_a_small_vocabulary_is_kept_whole_and_nothing_is_missed(seed, spread, noise):
    first, second = pairs(seed, positions=5, spread=spread, noise=noise)
    found = compared(first, second)
    np.testing.assert_allclose(found.kl_nats, slow_kl(first, second), atol=1e-6, rtol=1e-5)
    assert not found.error_nats.any()
    np.testing.assert_array_equal(found.same_top, first.argmax(-1) == second.argmax(-1))
    np.testing.assert_array_equal(found.likeliest, second.argmax(-1))


@pytest.mark.parametrize("noise", [1e-4, 1e-3, 0.03, 0.5])
def test_the_vocabulary_of_two_thousand_words_that_came_out_at_half(noise):
    first, second = text_like(0, 100, 2048, noise)
    found, truth = compared(first, second), quick_kl(first, second)
    np.testing.assert_allclose(found.kl_nats, truth, rtol=1e-3, atol=1e-9)
    assert (found.kl_nats >= -1e-12).all()


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [2049, 8192, 32_000, 151_936])
@pytest.mark.parametrize("noise", [1e-3, 0.03, 0.3, 1.0, 4.0])
def test_a_large_vocabulary_is_told_within_two_per_cent_and_within_its_own_error(vocabulary, noise):
    first, second = text_like(vocabulary, 96, vocabulary, noise)
    found, truth = compared(first, second), quick_kl(first, second).mean()
    error = math.sqrt(np.square(found.error_nats, dtype=np.float64).sum()) / len(first)
    assert found.kl_nats.mean(dtype=np.float64) == pytest.approx(truth, rel=0.02)
    assert abs(found.kl_nats.mean(dtype=np.float64) - truth) < 4 * error
    assert 2 * error < 0.03 * truth


@pytest.mark.parametrize("noise", [0.01, 0.2, 2.0])
def test_the_estimate_is_right_on_average_and_its_error_is_what_it_says(noise):
    """Over where the sample begins, of one pair of distributions with a heavy tail. Which of two estimates is taken
    depends on the sample, which moves the mean by a part of one position's error.
    """
    first, second = text_like(3, 1, 3000, noise)
    repeats = 1000
    found = compared(np.repeat(first, repeats, axis=0), np.repeat(second, repeats, axis=0))
    kl, said = found.kl_nats.astype(np.float64), np.sqrt(np.mean(np.square(found.error_nats, dtype=np.float64)))
    assert abs(kl.mean() - quick_kl(first, second)[0]) < 0.15 * said
    assert 0.2 * said < kl.std() < 1.3 * said  # points that are evenly apart miss less than those of chance


def test_a_position_whose_mass_lies_on_few_tokens_keeps_those_for_sure_and_a_flat_one_none():
    flat = np.zeros((1, 5000), np.float32)
    few = flat.copy()
    few[0, [7, 4000]] = 12, 13
    kept = compact(few)
    assert kept.tokens[0, :2].tolist() == [4000, 7]
    assert kept.likeliest.tolist() == [4000]
    masses, count = np.exp(log_probabilities(few))[0], int(kept.certain[0])
    drawn = divergence.TOKENS - count
    assert count >= 2
    assert masses[kept.tokens[0, count:]].max() <= kept.rest[0] / drawn * (1 + 1e-6)
    np.testing.assert_allclose(kept.rest[0] + masses[kept.tokens[0, :count]].sum(), 1, atol=1e-6)
    assert compact(flat).certain.tolist() == [0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 8))
def test_the_likeliest_come_first_and_the_mass_is_one(seed, spread):
    first, _ = pairs(seed, positions=3, vocabulary=3000, spread=spread)
    kept = compact(first)
    for row, count in enumerate(kept.certain):
        assert set(kept.tokens[row, :count]) == set(np.argsort(-first[row], kind="stable")[:count])
        assert (np.diff(kept.log_probabilities[row, :count]) <= 0).all()
        assert np.exp(kept.log_probabilities[row, :count]).sum() + kept.rest[row] == pytest.approx(1, abs=1e-5)
    assert (divergence.TOKENS - kept.certain >= divergence.FEWEST_DRAWN).all()
    np.testing.assert_allclose(
        kept.log_probabilities, np.take_along_axis(log_probabilities(first), kept.tokens, -1), atol=1e-5
    )


@pytest.mark.parametrize("form", [HostLogits, lambda rows: DeviceLogits(mx.array(rows))])
def test_known_answers(form):
    uniform, certain = np.zeros((1, 4), np.float32), np.array([[50.0, 0, 0, 0]], np.float32)
    assert form(uniform).against(compact(uniform)).kl_nats[0] == pytest.approx(0, abs=1e-6)
    assert form(uniform).against(compact(certain)).kl_nats[0] == pytest.approx(math.log(4), abs=1e-5)
    many, sharp = np.zeros((1, 10_000), np.float32), np.zeros((1, 10_000), np.float32)
    sharp[0, 5] = 200
    assert form(many).against(compact(many)).kl_nats[0] == pytest.approx(0, abs=1e-6)
    assert form(many).against(compact(sharp)).kl_nats[0] == pytest.approx(math.log(10_000), abs=1e-5)
    np.testing.assert_array_equal(form(many).against(compact(sharp)).same_top, [False])


@pytest.mark.parametrize("vocabulary", [64, 4000])
def test_words_that_a_model_forbids_add_nothing(vocabulary):
    first, second = pairs(5, positions=4, vocabulary=vocabulary)
    truth = quick_kl(first[:, 10:], second[:, 10:])
    first[:, :10] = second[:, :10] = -np.inf
    found = compared(first, second)
    np.testing.assert_allclose(found.kl_nats, truth, rtol=0.05, atol=1e-6)


@pytest.mark.parametrize("vocabulary", [64, 4000])
def test_logits_that_are_no_numbers_go_through_without_a_warning(vocabulary):
    """The losses show them, and are refused."""
    first, second = pairs(6, positions=3, vocabulary=vocabulary)
    second[1, 3], second[2, 5] = np.nan, np.inf
    assert np.isfinite(compared(first, second).kl_nats).tolist() == [True, False, False]
    compact(second)
    assert np.isfinite(HostLogits(second).nll(np.array([0, 0, 0]))).tolist() == [True, False, False]


@pytest.mark.parametrize(("vocabulary", "most"), [(512, 2060), (2048, 8204), (32_000, 3100), (151_936, 4120)])
def test_what_is_kept_of_a_position(vocabulary, most):
    kept = compact(pairs(0, positions=3, vocabulary=vocabulary)[0])
    size = sum(getattr(kept, each.name).nbytes for each in fields(kept)) / 3
    assert size <= most
    assert vocabulary < 10_000 or size < 4 * vocabulary / 10


@pytest.mark.parametrize("vocabulary", [300, 4000])
def test_parts_join_to_the_whole_however_they_are_cut(monkeypatch, vocabulary):
    first, second = pairs(4, vocabulary=vocabulary)
    kept = compact(first, place=11)
    again = joined([kept.part(0, 7), kept.part(7, 20)])
    anew = joined([compact(first[:7], 11), compact(first[7:], 18)])
    monkeypatch.setattr(logits, "AT_ONCE", 1)
    for other in (again, anew, compact(first, place=11)):
        for each in fields(Distributions):
            np.testing.assert_array_equal(getattr(other, each.name), getattr(kept, each.name))
    monkeypatch.undo()
    parts = [HostLogits(second[a:b]).against(kept.part(a, b)) for a, b in ((0, 7), (7, 20))]
    np.testing.assert_array_equal(joined(parts).kl_nats, HostLogits(second).against(kept).kl_nats)


@pytest.mark.parametrize("form", [HostLogits, lambda rows: DeviceLogits(mx.array(rows))])
@pytest.mark.parametrize("moved", [0.01, 0.05])
@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_mass_that_moves_to_unlikely_words_is_not_overlooked(form, noise, moved):
    """As where a few rows of the output head are wrong: no sample of 512 tokens shows those words."""
    first, second = text_like(2, 64, 20_000, noise)
    unlikely = first.mean(0).argsort()[:3]
    second[:, unlikely] = (np.log(moved / 3) + logits.log_sum_exp(second))[:, None]
    truth = quick_kl(first, second).mean()
    found = form(second).against(compact(first))
    assert found.kl_nats.mean(dtype=np.float64) == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("moved", [0.01, 0.1])
def test_nor_is_mass_that_is_spread_over_all_unlikely_words(moved):
    """As where a model has become less sure of everything: q/p of the unlikeliest is a thousand and more."""
    first, second = text_like(4, 512, 8192, 0.05)
    mixed = (1 - moved) * np.exp(log_probabilities(second)) + moved / 8192
    truth = quick_kl(first, np.log(mixed)).mean()
    found = compared(first, np.log(mixed).astype(np.float32))
    error = math.sqrt(np.square(found.error_nats, dtype=np.float64).sum()) / 512
    assert found.kl_nats.mean(dtype=np.float64) == pytest.approx(truth, rel=0.02)
    assert abs(found.kl_nats.mean(dtype=np.float64) - truth) < 4 * error
