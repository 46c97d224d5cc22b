"""Groups of series that cannot be told apart: letters by known answers, and how often equal ones are parted."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.stats.ranking import differing, letters
from pytest_quantbench.stats.window_sampling import Drawn


def given_letters(names, *apart):
    pairs = itertools.combinations(names, 2)
    return letters(names, {pair: pair in apart or pair[::-1] in apart for pair in pairs})


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        ((), {"x": "a", "y": "a", "z": "a"}),
        ((("x", "z"),), {"x": "a", "y": "ab", "z": "b"}),
        ((("x", "y"), ("x", "z")), {"x": "a", "y": "b", "z": "b"}),
        ((("x", "y"), ("x", "z"), ("y", "z")), {"x": "a", "y": "b", "z": "c"}),
    ],
)
def test_letters_of_three(apart, expected):
    assert given_letters("xyz", *apart) == expected


@given(st.integers(2, 7), st.data())
def test_two_share_a_letter_exactly_where_they_do_not_differ(count, data):
    names = [f"n{place}" for place in range(count)]
    differ = {pair: data.draw(st.booleans()) for pair in itertools.combinations(names, 2)}
    found = letters(names, differ)
    for (first, second), do_differ in differ.items():
        assert bool(set(found[first]) & set(found[second])) != do_differ
    assert all(found.values())


def candidates(rng, nats, tokens=512, noise=0.05):
    """Losses of several candidates on the same tokens, each with so many more nats than the first."""
    shared = rng.gamma(1.2, 1.6, tokens)
    return {f"c{place}": shared + rng.normal(each, noise, tokens) for place, each in enumerate(nats)}


def apart(losses, drawn=None, floor=0.0, **floors):
    """The same floor for all, but for those that are named."""
    return differing(losses, drawn, {name: floors.get(name, floor) for name in losses})


def test_of_equal_candidates_at_most_five_percent_of_tables_part_any():
    rng, tables = np.random.default_rng(0), 300
    parted = sum(any(apart(candidates(rng, [0.0] * 4)).values()) for _ in range(tables))
    assert parted / tables <= 0.05 + 2 * (0.05 * 0.95 / tables) ** 0.5


def test_two_equal_ones_among_worse_ones_are_parted_in_at_most_five_percent():
    rng, tables = np.random.default_rng(1), 300
    found = [apart(candidates(rng, [0.0, 0.0, 0.05, 0.1])) for _ in range(tables)]
    assert sum(each["c0", "c1"] for each in found) / tables <= 0.05 + 2 * (0.05 * 0.95 / tables) ** 0.5
    assert all(each["c0", "c3"] for each in found)


def test_what_differs_by_less_than_the_floor_does_not():
    found = candidates(np.random.default_rng(2), [0.0, 0.05])
    assert apart(found) == {("c0", "c1"): True}
    assert apart(found, floor=0.02) == {("c0", "c1"): True}
    assert apart(found, floor=0.03) == {("c0", "c1"): False}  # both may move by so much


def test_the_floor_of_one_decides_nothing_between_the_others():
    found = candidates(np.random.default_rng(2), [0.0, 0.05, 0.5])
    assert apart(found) == {("c0", "c1"): True, ("c0", "c2"): True, ("c1", "c2"): True}
    assert apart(found, c2=1.0) == {("c0", "c1"): True, ("c0", "c2"): False, ("c1", "c2"): False}


def reruns(rng, floors):
    """Candidates that are equal in truth, each moved as far as its floor says, up or down."""
    losses = candidates(rng, [0.0] * len(floors))
    moved = rng.choice([-1.0, 1.0], len(floors)) * list(floors.values())
    return {name: each + by for (name, each), by in zip(losses.items(), moved, strict=True)}


def test_equal_ones_that_a_rerun_moved_are_parted_in_at_most_five_percent():
    """And without the floors in most of the tables: what moves all tokens alike is in no interval."""
    rng, tables, floors = np.random.default_rng(4), 300, {"c0": 0.001, "c1": 0.01, "c2": 0.03}
    found = [reruns(rng, floors) for _ in range(tables)]
    parted = sum(any(differing(each, None, floors).values()) for each in found)
    assert parted / tables <= 0.05 + 2 * (0.05 * 0.95 / tables) ** 0.5
    assert sum(any(apart(each).values()) for each in found) / tables > 0.5


def test_the_same_series_twice_and_windows_that_are_all_of_a_text():
    losses = candidates(np.random.default_rng(3), [0.0, 0.2])
    assert apart({"x": losses["c0"], "y": losses["c0"]}) == {("x", "y"): False}
    whole = Drawn(population=8, tokens=64, begins=np.arange(8) * 64, counts=np.full(8, 64))
    assert apart(losses, whole) == {("c0", "c1"): True}  # nothing is left to chance
