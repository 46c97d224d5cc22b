"""How far a rerun moves a cell: known answers, and that the bound holds for random logits."""

from dataclasses import replace

import numpy as np
import pytest

from pytest_quantbench.record import noise_floor
from pytest_quantbench.record.schema import NoiseFloor

FLOOR = NoiseFloor(perplexity_points=0.004, kl_nats=1e-4, drop_points=0.0, flipped_points=0.5)


def test_the_floor_is_the_larger_of_what_was_drawn_and_what_noise_can_do():
    """A model that is 0.01 nats from its reference, moved by 1e-4 nats: 1e-4 + 2 √(0.01 × 1e-4) = 0.0021."""
    assert noise_floor.floor_nats(FLOOR, 0.01, 4.0, "float32") == pytest.approx(0.0021)
    assert noise_floor.floor_nats(replace(FLOOR, perplexity_points=0.4), 0.01, 4.0, "float32") == pytest.approx(0.1)
    assert noise_floor.floor_nats(None, 0.01, 4.0, "float32") == 1e-5
    assert noise_floor.floor_nats(None, 0.01, 4.0, "bfloat16") == 1e-3  # an order of summing moves it by more
    assert noise_floor.floor_nats(FLOOR, 0.01, 4.0, "bfloat16") == pytest.approx(0.0021)


def test_noise_of_so_many_nats_moves_a_divergence_by_no_more_than_the_floor():
    """Random logits, moved a little and moved again: the bound holds for every draw, to the order of the small move."""
    rng = np.random.default_rng(1)
    for scale in (0.01, 0.1, 0.3):
        for _ in range(50):
            logits = rng.normal(0, 2, (200, 20))
            worse, noise = rng.normal(0, scale, logits.shape), rng.normal(0, 0.02, logits.shape)
            kl, both, alone = (divergence(logits, logits + each) for each in (worse, worse + noise, noise))
            floor = noise_floor.floor_nats(replace(FLOOR, kl_nats=alone, perplexity_points=0.0), kl, 4.0, "float32")
            assert abs(both - kl) <= 1.05 * floor


def divergence(logits, others):
    p, q = (np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in (logits, others))
    return float((p * np.log(p / q)).sum(1).mean())


def test_of_several_floors_the_largest_figures_count():
    other = NoiseFloor(perplexity_points=0.1, kl_nats=None, drop_points=0.0, flipped_points=None)
    assert noise_floor.larger(FLOOR, None, other) == replace(FLOOR, perplexity_points=0.1)
    assert noise_floor.larger(None, None) is None
