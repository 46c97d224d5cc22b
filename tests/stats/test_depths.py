"""Strata of depth: every item is in one of them, and windows keep what they have there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.stats.depths import ends_for, strata
from pytest_quantbench.stats.window_sampling import Drawn


def drawn(counts, population=100):
    counts = np.array(counts)
    return Drawn(population=population, tokens=int(counts.max()), begins=np.cumsum(counts) - counts, counts=counts)


def test_strata_end_where_the_figures_of_caches_are_told():
    assert ends_for(1) == ends_for(512) == [512]
    assert ends_for(513) == [512, 1024]
    assert ends_for(8192) == [512, 1024, 2048, 4096, 8192]
    assert ends_for(8193)[-1] == 16384


def test_names_are_short():
    names = [each.name for each in strata(np.array([3, 512, 513, 2048, 4096, 8192]))]
    assert names == ["0–512", "512–1k", "1k–2k", "2k–4k", "4k–8k"]


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=50))
def test_every_item_is_in_the_one_stratum_of_its_depth(depths):
    depths = np.array(depths)
    found = list(strata(depths))
    assert sorted(np.concatenate([each.places for each in found])) == list(range(len(depths)))
    for each in found:
        assert (depths[each.places] > each.above).all()
        assert (depths[each.places] <= each.up_to).all()


def test_windows_keep_what_they_have_in_a_stratum():
    counts = [600, 200, 1000]
    depths = np.concatenate([np.arange(1, each + 1) for each in counts])
    first, second = strata(depths)
    assert first.drawn(drawn(counts)).counts.tolist() == [512, 200, 512]
    found = second.drawn(drawn(counts))
    assert found.counts.tolist() == [88, 488]
    assert found.begins.tolist() == [0, 800]  # of the windows that have any
    assert not found.whole


@pytest.mark.parametrize("population", [3, 7])
def test_all_windows_of_a_text_are_all_of_them_in_each_stratum(population):
    counts = [600, 200, 1000]
    depths = np.concatenate([np.arange(1, each + 1) for each in counts])
    for each in strata(depths):
        assert each.drawn(drawn(counts, population)).whole == (population == 3)


def test_what_was_not_drawn_has_no_windows():
    assert next(strata(np.array([1, 2]))).drawn(None) is None
    assert list(strata(np.array([], np.int32))) == []
