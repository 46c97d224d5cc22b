"""Who is on the front: known answers, what holds for any cells, and how often a cell is called dominated wrongly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.fronts import Standing, p_less, standings
from pytest_quantbench.stats.series import Blocks

FIGURES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8)


def words(*arguments):
    return [standing.word for standing in standings(*arguments)]


def test_what_nothing_beats_on_both_is_the_front():
    costs, losses = [1, 2, 3, 2.5], [3, 2, 1, 2.5]
    found = standings(costs, losses, {})
    assert [each.word for each in found] == ["on the front"] * 3 + ["dominated by the estimate"]
    assert found[3] == Standing(word="dominated by the estimate", by=1, p=1.0)


def test_equal_cells_do_not_dominate_each_other():
    assert words([1, 1], [2, 2], {}) == ["on the front", "on the front"]
    assert words([1, 1], [2, 3], {}) == ["on the front", "dominated by the estimate"]


def test_beyond_doubt_is_the_surest_of_all_that_were_tried():
    tried = {(2, 0): 0.02, (2, 1): 0.001}
    assert standings([1, 1, 1], [1, 2, 3], tried)[2] == Standing(word="dominated beyond doubt", by=1, p=0.002)
    assert words([1, 1, 1], [1, 2, 3], {(2, 0): 0.04, (2, 1): 0.04})[2] == "dominated by the estimate"  # 2 × 0.04


@given(FIGURES)
def test_the_front_is_that_of_a_slow_search(figures):
    costs, losses = zip(*figures, strict=True)
    for standing, mine in zip(standings(costs, losses, {}), figures, strict=True):
        beaten = any(a <= mine[0] and b <= mine[1] and (a < mine[0] or b < mine[1]) for a, b in figures)
        assert (standing.word == "on the front") is not beaten


@given(FIGURES)
def test_there_is_always_a_front(figures):
    assert "on the front" in words(*zip(*figures, strict=True), {})


@pytest.mark.parametrize("dominators", [1, 5])
def test_a_cell_that_nothing_dominates_is_called_dominated_in_at_most_one_of_twenty(dominators):
    """The hardest case: all cells lose the same, and only chance tells them apart."""
    rng, repeats, called = np.random.default_rng(7), 600, 0
    for _ in range(repeats):
        losses = rng.normal(size=(1 + dominators, 1024)) + rng.normal(size=1024)  # of the same tokens
        found = [series.mean(other - losses[0], Blocks()) for other in losses[1:]]
        p = {(0, place + 1): estimate.p_below(0.0) for place, estimate in enumerate(found)}
        standing = standings([2.0] + [1.0] * dominators, losses.mean(1), p)[0]
        called += standing.word == "dominated beyond doubt"
    assert called <= repeats * 0.05 + 2.33 * (repeats * 0.05 * 0.95) ** 0.5  # 1 % of correct programs would be above
    assert called > repeats * 0.01  # and it is no test that never says so


def test_a_cell_that_is_dominated_is_found_out():
    rng = np.random.default_rng(3)
    mine, other = rng.normal(0.2, 1, 4096), rng.normal(0, 1, 4096)
    p = series.mean(other - mine, Blocks()).p_below(0.0)
    assert words([2, 1], [0.2, 0.0], {(0, 1): p})[0] == "dominated beyond doubt"


def interval(estimate, half, confidence=0.9):
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half, confidence=confidence)


def test_intervals_alone_tell_less_surely():
    assert p_less(interval(1, 0.5), interval(1, 0.5)) == pytest.approx(0.5)
    assert p_less(interval(0, 1.645), interval(1.645 * 2**0.5, 1.645)) == pytest.approx(0.05, abs=1e-3)
    assert p_less(interval(0, 1.96, 0.95), interval(1.645 * 2**0.5, 1.645)) == pytest.approx(0.05, abs=1e-3)


def test_exact_figures_are_compared_exactly():
    assert p_less(interval(1, 0, 1.0), interval(2, 0, 1.0)) == 0.0
    assert p_less(interval(2, 0, 1.0), interval(2, 0, 1.0)) == 1.0
    assert p_less(interval(0, 0, 1.0), interval(1.645, 1.645)) == pytest.approx(0.05, abs=1e-3)


def test_of_an_unknown_error_nothing_is_claimed():
    alone, known = interval(0.0, 0, 0.0), interval(9.0, 0.1)
    assert p_less(alone, known) == 1.0
    assert p_less(interval(-9.0, 0.1), alone) == 1.0
    assert p_less(alone, interval(9.0, 0, 0.0)) == 1.0


def test_a_floor_is_what_the_difference_has_to_be_beyond():
    assert p_less(interval(1, 0.5), interval(2, 0.5), 1.0) == pytest.approx(0.5)
    assert p_less(interval(1, 0, 1.0), interval(2, 0, 1.0), 0.9) == 0.0
    assert p_less(interval(1, 0, 1.0), interval(2, 0, 1.0), 1.0) == 1.0


@settings(max_examples=50)
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.01, 3), st.floats(0.01, 3))
def test_less_and_not_less_add_up(first, second, half, other):
    a, b = interval(first, half), interval(second, other)
    assert p_less(a, b) + p_less(b, a) == pytest.approx(1.0)
