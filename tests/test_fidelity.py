"""Divergences from compact distributions against the full ones in float64."""

import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench import fidelity
from pytest_quantbench.fidelity import compact, compare, kept_tokens


def full(logits):
    shifted = np.array(logits, np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def slow_kl(first, second):
    """Σ p log(p / q) over the whole vocabulary, position by position."""
    rows = zip(full(first), full(second), strict=True)
    return np.array([sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)) for p, q in rows])


def pairs(seed, positions=20, vocabulary=1000, spread=2.0, noise=0.3):
    rng = np.random.default_rng(seed)
    first = spread * rng.standard_normal((positions, vocabulary))
    return first.astype(np.float32), (first + noise * rng.standard_normal(first.shape)).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 6), st.floats(0.0, 2))
def test_the_divergence_lies_within_what_is_said_to_be_missed(seed, spread, noise):
    first, second = pairs(seed, spread=spread, noise=noise)
    found, truth = compare(compact(mx.array(first)), mx.array(second)), slow_kl(first, second)
    assert (found.kl_nats <= truth + 1e-5).all()
    assert (truth <= found.kl_nats + found.missed_nats + 1e-5).all()
    np.testing.assert_array_equal(found.same_top, first.argmax(-1) == second.argmax(-1))


def test_all_of_a_vocabulary_leaves_nothing_out(monkeypatch):
    monkeypatch.setattr(fidelity, "SHARE", 3.0)
    first, second = pairs(0, vocabulary=50)
    found = compare(compact(mx.array(first)), mx.array(second))
    np.testing.assert_allclose(found.kl_nats, slow_kl(first, second), atol=1e-5)
    assert found.missed_nats.max() < 1e-4


def test_known_answers():
    uniform, certain = np.zeros((1, 4), np.float32), np.array([[50.0, 0, 0, 0]], np.float32)
    assert compare(compact(mx.array(uniform)), mx.array(uniform)).kl_nats[0] == pytest.approx(0, abs=1e-6)
    assert compare(compact(mx.array(certain)), mx.array(uniform)).kl_nats[0] == pytest.approx(math.log(4), abs=1e-5)


@pytest.mark.parametrize("vocabulary", [512, 2048, 32_000, 65_536, 151_936, 262_144])
def test_what_is_kept_is_a_hundredth_of_the_logits(vocabulary):
    count = kept_tokens(vocabulary)
    size = 4 + count * (4 + (2 if vocabulary <= 65_536 else 4))
    assert size <= 0.01 * 4 * vocabulary
    if vocabulary < 65_536:
        kept = compact(mx.array(pairs(0, positions=3, vocabulary=vocabulary)[0]))
        assert kept.tokens.nbytes + kept.log_probabilities.nbytes + kept.rest.nbytes == 3 * size


def test_the_largest_come_first_and_the_mass_is_one():
    first, _ = pairs(3)
    kept = compact(mx.array(first))
    assert (np.diff(kept.log_probabilities, axis=1) <= 0).all()
    np.testing.assert_allclose(np.exp(kept.log_probabilities).sum(-1) + kept.rest, 1, atol=1e-5)
    np.testing.assert_array_equal(kept.tokens[:, 0], first.argmax(-1))


def test_parts_join_to_the_whole():
    first, second = pairs(4)
    kept = compact(mx.array(first))
    again = fidelity.joined([kept.part(0, 7), kept.part(7, 20)])
    np.testing.assert_array_equal(again.log_probabilities, kept.log_probabilities)
    parts = [compare(kept.part(a, b), mx.array(second[a:b])) for a, b in ((0, 7), (7, 20))]
    np.testing.assert_allclose(fidelity.joined(parts).kl_nats, compare(kept, mx.array(second)).kl_nats, atol=1e-6)
