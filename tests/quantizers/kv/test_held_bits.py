"""What a cache takes, against counts by hand."""

import re
from pathlib import Path

import numpy as np
import pytest

from pytest_quantbench.catalog.recipes import CACHES
from pytest_quantbench.quantizers import kv
from pytest_quantbench.quantizers.kv import Grid
from pytest_quantbench.quantizers.kv.held_bits import (
    HeldLayer,
    bits_per_number,
    bits_per_token,
    cache_bytes,
    head_bits,
    reduction,
)

METHOD_PAGE = Path(__file__).parents[3] / "docs" / "method.md"
LAYERS = [HeldLayer(heads=2, key_channels=64, value_channels=64)] * 3


def by_recipe(name):
    return kv.make(CACHES[name])


@pytest.mark.parametrize(
    ("recipe", "tokens", "bits"),
    [  # for each number, counted by hand for heads of 64 channels
        ("kv8", 1, 8 + 32 / 64),
        ("kv4", 100, 4 + 32 / 64),
        ("kv2", 100, 2 + 32 / 64),
        ("k8v4", 7, (8 + 4) / 2 + 32 / 64),
        ("kv4-rot", 7, 4.5),
        ("kv8-token", 9, 8.5),
        ("kv1-token", 9, 1.5),
        ("kv4-channel", 64, 4.5),
        ("kv4-channel", 63, 16),  # no group is full
        ("kv4-channel", 96, (64 * 4.5 + 32 * 16) / 96),
        ("kivi2", 127, 16),
        ("kivi2", 128, (3 + 16) / 2),  # the keys are rounded, the values in their window
        ("kivi2", 256, (3 + (3 + 16) / 2) / 2),
        ("kivi4", 300, ((256 * 5 + 44 * 16) + (172 * 5 + 128 * 16)) / 600),
        # 4 channels in 16 bits, 8 in 4 and 52 in 2, each of the 60 with 32 bits for 32 tokens, 2 bits to say which
        ("mixkvq", 128, ((4 * 16 + 8 * (4 + 1) + 52 * (2 + 1) + 64 * 2 / 128) / 64 + 3) / 2),
        # a chunk in 16 bits, three in 4 and four in 2, a grid for 32 numbers; two bits for each chunk of 32 tokens
        ("cocktailkv", 256, (16 + 3 * 5 + 4 * 3 + 8 * 2 / (32 * 64)) / 8),
        ("cocktailkv", 255, 16),
        ("pmkvq", 127, 16),
        ("pmkvq", 128, (127 * 8.5 + 16) / 128),  # the first token is in full
        ("pmkvq", 1024, (511 * 4.5 + 16 + 512 * 8.5) / 1024),
        ("pmkvq", 4096, (2047 * 2.5 + 16 + 1536 * 4.5 + 512 * 8.5) / 4096),
    ],
)
def test_bits_of_a_number_against_a_count_by_hand(recipe, tokens, bits):
    assert bits_per_number(by_recipe(recipe), LAYERS, tokens) == pytest.approx(bits, rel=1e-12)
    assert bits_per_token(by_recipe(recipe), LAYERS, tokens) == pytest.approx(3 * 2 * 128 * bits, rel=1e-12)


def test_bytes_and_what_is_saved():
    assert cache_bytes(None, LAYERS, 10) == 10 * 3 * 2 * 128 * 2
    assert cache_bytes(by_recipe("kv4"), LAYERS, 10) == 10 * 3 * 2 * 128 * 4.5 / 8
    assert reduction(by_recipe("kv4"), LAYERS, 10) == pytest.approx(1 - 4.5 / 16)


def test_keys_and_values_of_other_sizes_have_their_own_groups():
    layer = HeldLayer(heads=1, key_channels=96, value_channels=128)
    held = bits_per_token(by_recipe("kv4"), [layer], 5)
    assert held == 96 * (4 + 32 / 48) + 128 * 4.5  # 48 is the largest group of at most 64 that divides 96


def test_the_table_of_the_method_page_is_what_is_counted():
    rows = re.findall(
        r"^\| `(\S+)` \|[^|]*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", METHOD_PAGE.read_text(), re.MULTILINE
    )
    layers = [HeldLayer(heads=1, key_channels=128, value_channels=128)]
    assert [row[0] for row in rows] == list(CACHES)
    for recipe, *shown in rows:
        counted = [f"{bits_per_number(by_recipe(recipe), layers, tokens):.2f}" for tokens in (512, 2048, 8192)]
        assert shown == counted, recipe


@pytest.mark.parametrize("recipe", CACHES)
def test_no_cache_takes_more_than_16_bits_and_it_comes_to_rest(recipe):
    method = by_recipe(recipe)
    bits = [bits_per_number(method, LAYERS, tokens) for tokens in (1, 64, 128, 512, 2048, 8192, 65536)]
    assert all(0 < each <= 16 for each in bits)
    assert bits[-1] < 8.6
    assert bits[-2] - 0.7 < bits[-1] <= bits[-2]  # what stays in full is shared by more tokens


@pytest.mark.parametrize("along", ["channels", "tokens"])
def test_a_group_that_is_not_full_has_its_scale_too(along):
    grid = Grid(bits=4, group=32, along=along)
    assert grid.stored_bits(40, 40) == 40 * 40 * 4 + 40 * 2 * 32
    assert Grid(bits=4, group=32, along=along, kind="symmetric").stored_bits(40, 40) == 40 * 40 * 4 + 40 * 2 * 16


def test_a_stage_without_rounding_is_in_full():
    form = kv.CacheForm(keys=(kv.Stage(rounding=None),), values=())
    assert head_bits(form, "keys", 3, 8) == head_bits(form, "values", 3, 8) == 3 * 8 * 16
    assert np.array_equal(form.given_back("keys", 0, np.ones((1, 3, 8), np.float32)), np.ones((1, 3, 8)))
