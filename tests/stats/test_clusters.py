"""Design effects against a slow reading of the definition, and verdicts on clustered answers by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.stats.clusters import clusters_of
from pytest_quantbench.stats.proportions import Flips, excess_p, flips

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 6)), min_size=2, max_size=60)


def arrays(rows):
    reference, quantized, groups = (np.array(column) for column in zip(*rows, strict=True))
    return reference.astype(bool), quantized.astype(bool), tuple(map(str, groups))


def slow_effect(values, names, prior):
    """Σ (sum of the deviations of a cluster)² over Σ deviations², small-sample factor and prior included."""
    mean, groups = sum(values) / len(values), sorted(set(names))
    if len(groups) in (1, len(values)):
        return 1.0
    sums = [sum(v - mean for v, name in zip(values, names, strict=True) if name == group) for group in groups]
    sizes = [names.count(group) for group in groups]
    assumed = 1 + (sum(size * size for size in sizes) / len(values) - 1) * 0.5
    together = len(groups) / (len(groups) - 1) * sum(each**2 for each in sums) + prior * assumed
    alone = sum((value - mean) ** 2 for value in values) + prior
    return max(1.0, together / alone) if alone else 1.0


@given(ANSWERS, st.sampled_from([0.0, 2.0]))
def test_the_design_effect_is_what_its_definition_says(rows, prior):
    reference, quantized, names = arrays(rows)
    change = reference.astype(float) - quantized
    found = clusters_of(names, len(names)).effect(change, prior)
    assert found == pytest.approx(slow_effect(change.tolist(), names, prior), rel=1e-9)


@settings(deadline=None)
@given(ANSWERS)
def test_questions_that_stand_alone_are_judged_as_before_and_clusters_never_more_surely(rows):
    reference, quantized, names = arrays(rows)
    plain = flips(reference, quantized)
    alone = flips(reference, quantized, tuple(map(str, range(len(names)))))
    assert alone == plain == Flips(lost=plain.lost, gained=plain.gained, questions=len(names))
    together = flips(reference, quantized, names)
    assert (together.value, together.rate) == (plain.value, plain.rate)
    for limit in (-3.0, 0.0, 3.0):
        sides = ((each.p_below(limit), each.p_above(limit)) for each in (plain, together))
        for independent, clustered in zip(*sides, strict=True):
            assert clustered >= min(independent, 0.5) - 1e-9
    assert together.interval().low <= plain.interval().low + 1e-9
    assert together.interval().high >= plain.interval().high - 1e-9


def test_degrees_and_correlation_by_hand():
    even = clusters_of(("a",) * 5 + ("b",) * 5 + ("c",) * 5, 15)
    assert even.degrees == pytest.approx(2)
    uneven = clusters_of(("a",) * 13 + ("b", "c"), 15)
    assert uneven.degrees == pytest.approx(225 / 171 - 1)
    assert even.correlation(np.array([1.0] * 5 + [0.0] * 10)) == pytest.approx(1.0)
    assert even.correlation(np.tile([1.0, 0.0, 0.0, 0.0, 0.0], 3)) == pytest.approx(-0.25)
    assert even.correlation(np.ones(15)) is None
    assert clusters_of((), 3).correlation(np.array([1.0, 0.0, 0.0])) is None


def test_one_source_says_nothing():
    right = np.ones(50, bool)
    alone = flips(right, right, ("passage",) * 50)
    assert (alone.p_below(3.0), alone.p_above(-3.0)) == (1.0, 1.0)
    assert (alone.interval().low, alone.interval().high) == (-100, 100)
    assert alone.detectable(3.0) > 100
    assert excess_p(right, 0.25, 0.03, ("passage",) * 50) == 1.0


def test_a_reference_that_is_right_by_whole_passages_is_less_surely_above_chance():
    rng = np.random.default_rng(0)
    names = tuple(str(n // 20) for n in range(400))
    right = np.repeat(rng.random(20) < 0.4, 20)
    assert excess_p(right, 0.25, 0.03) < 0.002
    assert excess_p(right, 0.25, 0.03, names) > 0.2
    assert excess_p(rng.random(400) < 0.9, 0.25, 0.03, names) < 1e-8
