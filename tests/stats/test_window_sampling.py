"""Which windows are drawn: all alike likely, spread over the text, nested."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.measures.perplexity.windows import grid
from pytest_quantbench.stats.window_sampling import Drawn, order


@given(st.integers(1, 3000), st.integers(0, 1000))
def test_every_window_is_drawn_once_and_a_seed_always_gives_the_same_order(population, seed):
    drawn = order(population, seed)
    assert sorted(drawn) == list(range(population))
    np.testing.assert_array_equal(drawn, order(population, seed))


def test_another_seed_draws_others():
    assert set(order(1000, 0)[:8]) != set(order(1000, 1)[:8])


@pytest.mark.parametrize(("population", "first"), [(3, 1), (5, 2), (6, 3), (11, 4), (13, 8)])
def test_every_window_is_as_likely_as_any_other_to_be_among_the_first(population, first):
    draws = 6000
    counts = np.bincount(
        np.concatenate([order(population, seed)[:first] for seed in range(draws)]), minlength=population
    )
    expected = draws * first / population
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected)


@given(st.integers(0, 500), st.integers(1, 7))
def test_the_first_windows_are_from_different_parts_of_the_text(seed, halvings):
    """Of 1,024 windows in a circle, the first 2^k lie in 2^k arcs of equal length."""
    drawn, count = order(1024, seed), 2**halvings
    places = np.sort(drawn[:count])
    gaps = np.diff([*places, places[0] + 1024])
    assert gaps.max() < 2 * 1024 // count
    starts = [
        turn for turn in range(1024 // count) if len({(p + turn) % 1024 * count // 1024 for p in places}) == count
    ]
    assert starts


def test_a_sample_is_better_spread_than_chance_would_have_it():
    ramp = np.arange(4000) / 4000
    spread = np.std([ramp[order(4000, seed)[:16]].mean() for seed in range(300)])
    chance = np.std([np.random.default_rng(seed).choice(ramp, 16, replace=False).mean() for seed in range(300)])
    assert spread < 0.5 * chance


@given(st.integers(1, 2000), st.integers(2, 300), st.integers(1, 300), st.booleans())
def test_the_windows_of_a_text_score_every_token_once(available, context, stride, scores_first):
    stride = min(stride, context)
    found = grid(available, context, stride, scores_first)
    scored = [token for window in found for token in range(window.first, window.end)]
    alone = [] if scores_first else [t for t in range(available) if t == 0 or (stride == context and t % context == 0)]
    assert scored == [token for token in range(available) if token not in alone]
    for window in found:
        assert window.end - window.begin <= context
        assert window.scored <= stride
        before = window.first - window.begin
        assert before >= min(context - stride, window.first) or window.begin == 0


def drawn_of(counts, population):
    counts = np.array(counts)
    return Drawn(population=population, tokens=max(counts), begins=100 * np.arange(len(counts)), counts=counts)


def test_samples_that_end_between_windows_only():
    drawn = drawn_of([4, 4, 3, 4], 9)
    assert list(drawn.holding(11).counts) == [4, 4, 3]
    assert list(drawn.holding(0).counts) == []
    assert list(drawn.holding(15).counts) == [4, 4, 3, 4]
    for scored in (5, 16):
        with pytest.raises(ValueError, match="no whole number"):
            drawn.holding(scored)


def test_a_text_that_is_read_whole_leaves_nothing_to_chance():
    drawn = drawn_of([4, 4], 2)
    assert (drawn.whole, drawn.finite) == (True, 0)
    assert dataclasses.replace(drawn, population=8).finite == 0.75
    assert list(drawn.scored()) == [0, 1, 2, 3, 100, 101, 102, 103]
