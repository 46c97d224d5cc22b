"""A share with its interval where answers depend on each other: by hand, and how often it misses, by simulation."""

import numpy as np
import pytest

from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.stats.proportions import share_of_clusters, wilson


def test_a_share_of_independent_answers_is_wilsons():
    right = np.arange(200) < 150
    assert share_of_clusters(right) == wilson(150, 200)
    assert share_of_clusters(right, [str(n) for n in range(200)]) == wilson(150, 200)
    with pytest.raises(ComparisonError, match="no trials"):
        share_of_clusters(np.zeros(0, bool))


def test_answers_of_one_source_are_worth_one():
    """40 sources, of each of which five answers are all alike: as much as 40 answers say, by Student's t."""
    of_sources = np.arange(40) < 30
    found = share_of_clusters(np.repeat(of_sources, 5), np.repeat(np.arange(40), 5).astype(str).tolist())
    worth = 39 * (1.6449 / 1.6849) ** 2  # a design effect of 5 · 40 / 39
    expected = wilson(0.75 * worth, worth)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-4)
    assert found.estimate == pytest.approx(0.75)
    whole = share_of_clusters(np.ones(10, bool), ["one"] * 10)
    assert whole.high - whole.low > 0.7  # of one source next to nothing is known


@pytest.mark.parametrize(("sources", "spread"), [(200, 0.0), (40, 0.0), (40, 0.25), (100, 0.25)])
def test_a_share_of_clusters_misses_about_as_often_as_it_says(sources, spread):
    """Each source has an accuracy of its own, `spread` about 0.7; eight questions of each."""
    rng, missed = np.random.default_rng(5), 0
    names = np.repeat(np.arange(sources), 8).astype(str).tolist()
    for _ in range(600):
        own = rng.choice([0.7 - spread, 0.7 + spread], sources)
        found = share_of_clusters(rng.random(8 * sources) < np.repeat(own, 8), names)
        missed += not found.low <= 0.7 <= found.high
    assert missed <= 60 + 2 * 7.4  # 10 % of 600 and two deviations
