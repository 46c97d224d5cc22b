"""The record's part of a cache: bits and bytes by hand, and whether its divergence is within the noise."""

import numpy as np
import pytest
from builders import make_divergence, make_losses, make_perplexity

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.record.cache_summary import cache
from pytest_quantbench.record.schema import NoiseFloor

SHAPES = ((2, 64, 64, 0), (2, 64, 64, 0), (3, 128, 64, 0))  # of two layers alike, and one that stores more
NUMBERS = 2 * 2 * 128 + 3 * 192  # of a token


def losses(deepest=300):
    return make_losses(np.ones(10), depths=np.full(10, deepest, np.int32), cache_shapes=SHAPES)


def test_what_a_token_takes_is_counted_by_hand():
    part = cache(recipe("kv8"), losses(), None, None)
    assert (part.method, part.layers, part.parameters["bits"]) == ("affine", 3, "8")
    size = part.size
    assert size.tokens == 300
    assert size.bits_per_value == pytest.approx(8 + 32 / 64)  # a scale and a bias in 16 bits for each 64
    assert size.bits_per_token == pytest.approx(8.5 * NUMBERS)
    assert (size.stored_bytes, size.bf16_bytes) == (pytest.approx(300 * 8.5 * NUMBERS / 8), 300 * 2 * NUMBERS)
    assert size.reduction_percent == pytest.approx(100 * (1 - 8.5 / 16))
    assert [each.tokens for each in part.sizes] == [512, 1024, 2048, 4096, 8192]


def test_keys_and_values_may_have_other_widths():
    size = cache(recipe("k8v4"), losses(), None, None).size
    keys = 2 * 2 * 64 + 3 * 128
    assert size.bits_per_token == pytest.approx(8.5 * keys + 4.5 * (NUMBERS - keys))


def test_what_a_method_leaves_in_16_bits_weighs_less_the_more_tokens_there_are():
    bits = [each.bits_per_value for each in cache(recipe("kivi2"), losses(), None, None).sizes]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] > bits[-1] > 2


def test_deeper_windows_have_a_size_of_their_own():
    part = cache(recipe("kv4"), losses(20_000), None, None)
    assert part.size.tokens == 20_000
    assert part.sizes[-1].tokens == 32_768


def test_without_a_walk_the_method_is_told_and_without_a_cache_nothing():
    part = cache(recipe("int4+kv4-rot"), None, None, None)
    assert (part.parameters["rotated"], part.size, part.sizes, part.layers) == ("True", None, (), None)
    assert cache(recipe("int4"), losses(), None, None) is None


@pytest.mark.parametrize(("floor", "within"), [(0.02, True), (0.005, False), (None, None)])
@pytest.mark.parametrize(("delta", "points", "near"), [(-0.05, 0.1, True), (0.2, 0.1, False), (0.05, None, None)])
def test_the_noise_floor_stands_beside_by_divergence_and_by_perplexity(floor, within, delta, points, near):
    judged = make_perplexity(divergence=make_divergence(0.01), delta=delta)
    noise = NoiseFloor(perplexity_points=points, kl_nats=floor, drop_points=None, flipped_points=None)
    part = cache(recipe("kv8"), losses(), judged, noise)
    assert (part.kl_within_noise, part.delta_within_noise) == (within, near)
    part = cache(recipe("kv8"), losses(), None, noise)
    assert (part.kl_within_noise, part.delta_within_noise) == (None, None)


def test_layers_with_sliding_windows_hold_the_newest_tokens_alone():
    """Of Gemma 3 4B: 34 layers of 4 key heads of 256 channels, five of which keep every token and the others 1,024."""
    shapes = ((4, 256, 256, 0),) * 5 + ((4, 256, 256, 1024),) * 29
    samples = make_losses(np.ones(10), depths=np.full(10, 8192, np.int32), cache_shapes=shapes)
    numbers = 2 * 4 * 256 * (5 * 8192 + 29 * 1024)
    size = cache(recipe("kv8"), samples, None, None).size
    assert size.bf16_bytes == 2 * numbers
    assert size.stored_bytes == pytest.approx(8.5 / 8 * numbers)
    assert size.bits_per_value == pytest.approx(8.5)
    assert size.bits_per_token == pytest.approx(8.5 * numbers / 8192)
    windowed = make_losses(np.ones(10), depths=np.full(10, 8192, np.int32), cache_shapes=((1, 64, 64, 1024),))
    young = cache(recipe("pmkvq"), windowed, None, None).size  # no token there is 2,048 tokens old
    assert young.bits_per_value == pytest.approx((8.5 + 4.5) / 2)


@pytest.mark.parametrize(("engaged", "percent"), [([True, False, False, False], 25.0), ([], None)])
def test_how_many_tokens_were_reached(engaged, percent):
    samples = make_losses(np.ones(4), depths=np.full(4, 9, np.int32), engaged=np.array(engaged, bool))
    assert cache(recipe("kv8"), samples, None, None).reached_percent == percent
