"""Loads → figures: stages, ratios of the same rounds, and loads that were not what they are called."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pytest_quantbench.measures.load.samples import STAGES, LoadSamples, OneLoad
from pytest_quantbench.record.load_summary import load
from pytest_quantbench.record.raw import raw
from pytest_quantbench.stats.spread import Spread


def one(number, cold, scale, share=None):
    seconds = dict(zip(STAGES, (1.0, 0.5, 0.25, 2.0, 0.5), strict=True))
    return OneLoad(
        round=number,
        cold=cold,
        seconds={stage: scale * each for stage, each in seconds.items()},
        resident_share=float(not cold) if share is None else share,
        before_bytes=100_000_000,
        after_bytes=100_000_000 + round(scale * 1e9),
        peak_bytes=2_000_000_000,
    )


def samples(**changes):
    own = [one(n, cold, (2 if cold else 1) * (1 + 0.1 * n)) for n in range(3) for cold in (False, True)]
    reference = [one(n, cold, (8 if cold else 2) * (1 + 0.11 * n)) for n in range(3) for cold in (False, True)]
    given = {"loader": "a", "file_bytes": 3_000_000_000, "prompt_tokens": 5, "loads": tuple(own)}
    given |= {"reference_loader": "b", "reference_file_bytes": 9 * 10**9, "reference_loads": tuple(reference)}
    return LoadSamples(**given | {"cold_by": "posix_fadvise"} | changes)


def test_figures_are_of_warm_and_cold_loads_apart():
    found = load(samples())
    assert found.lacks == {}
    assert found.warm.first_token_sec.mean == pytest.approx(4.25 * 1.1)
    assert found.cold.first_token_sec.mean == pytest.approx(2 * 4.25 * 1.1)
    assert found.warm.first_token_sec.n == 3
    assert (found.warm.first_token_sec.least, found.warm.first_token_sec.most) == pytest.approx((4.25, 4.25 * 1.2))
    assert found.warm.stage_sec["weights"].mean == pytest.approx(2 * 1.1)
    assert list(found.warm.stage_sec) == list(STAGES)
    assert found.warm.gb_per_sec.most == pytest.approx(3 / 3)  # opening, weights and first token take 3 seconds
    assert (found.warm.resident_share, found.cold.resident_share) == (1, 0)
    assert (found.before_gb, found.added_gb.mean, found.peak_gb, found.gb) == pytest.approx((0.1, 1.1, 2.0, 3.0))
    assert found.warm.reference_sec.mean == pytest.approx(2 * 4.25 * 1.11)


def test_ratios_are_of_the_same_rounds():
    ratio = load(samples()).cold.ratio
    logs = [math.log(2 * (1 + 0.1 * n) / (8 * (1 + 0.11 * n))) for n in range(3)]
    half = 2.9200 * np.std(logs, ddof=1) / math.sqrt(3)  # Student's t, two degrees of freedom, 5 % on each side
    assert ratio.estimate == pytest.approx(math.exp(np.mean(logs)))
    assert (ratio.low, ratio.high) == pytest.approx(
        (math.exp(np.mean(logs) - half), math.exp(np.mean(logs) + half)), rel=1e-4
    )


def test_the_reference_has_no_ratio():
    found = load(samples(reference_loads=(), reference_loader=""))
    assert found.warm.ratio is None
    assert found.warm.reference_sec is None


def test_cold_loads_whose_pages_stayed_are_none():
    stayed = tuple(replace(each, resident_share=0.4) if each.cold else each for each in samples().loads)
    found = load(samples(loads=stayed))
    assert found.cold is None
    assert found.lacks == {"cold": "40% of the files stayed in memory: another process has them mapped or reads them."}
    assert found.warm is not None


def test_where_the_originals_pages_stayed_only_the_ratio_is_missing():
    stayed = tuple(replace(each, resident_share=0.4) if each.cold else each for each in samples().reference_loads)
    found = load(samples(reference_loads=stayed))
    assert (found.cold.ratio, found.cold.reference_sec) == (None, None)
    assert found.cold.first_token_sec == load(samples()).cold.first_token_sec
    assert found.lacks["cold"].startswith("No ratio to the original's loads. 40% of the files stayed in memory:")
    assert found.warm.ratio == load(samples()).warm.ratio


def test_warm_loads_without_room_for_the_files_are_none():
    short = tuple(each if each.cold else replace(each, resident_share=0.5) for each in samples().loads)
    assert "no room" in load(samples(loads=short)).lacks["warm"]


def test_without_cold_loads_the_reason_is_told():
    warm = tuple(each for each in samples().loads if not each.cold)
    found = load(samples(loads=warm, cold_by="", cold_lacks="Nothing is dropped here."))
    assert (found.cold, found.lacks) == (None, {"cold": "Nothing is dropped here."})


def test_a_system_that_does_not_tell_what_is_in_memory_is_believed():
    untold = tuple(replace(each, resident_share=None) for each in samples().loads)
    found = load(samples(loads=untold, reference_loads=()))
    assert found.cold.resident_share is None
    assert found.cold.first_token_sec.n == 3


def test_raw_arrays_are_of_both_sides():
    arrays = raw({"load": samples()})
    assert arrays["load/seconds"].shape == (12, len(STAGES))
    assert arrays["load/reference"].sum() == 6
    assert arrays["load/cold"].sum() == 6
    without = replace(samples().loads[0], seconds={"start": 1.0, "weights": 2.0, "first token": 3.0})
    row = raw({"load": samples(loads=(without,), reference_loads=())})["load/seconds"][0]
    assert np.isnan(row).tolist() == [False, True, True, False, False]


def test_a_spread_of_one_has_no_deviation():
    assert Spread.of([2.0]) == Spread(mean=2.0, std=None, least=2.0, most=2.0, n=1)
    assert Spread.of([1.0, 3.0]) == Spread(mean=2.0, std=pytest.approx(2**0.5), least=1.0, most=3.0, n=2)
