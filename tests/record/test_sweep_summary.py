"""Known times → known statistics of every point, and ratios that are there only where the machine stayed as it was."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pytest_quantbench.judge import sweep as judged
from pytest_quantbench.measures.sweep.samples import Point, PointRun, PointSamples, SweepSamples
from pytest_quantbench.measures.sweep.trial import PROBED
from pytest_quantbench.record.sweep_summary import sweep

STEADY = (100.0,) * 9


def run(gap, count=63, first=0.5):
    gaps = np.full(count, gap, np.float32)
    return PointRun(first_seconds=first, seconds=first + count * gap, gaps_seconds=gaps)


def samples(gaps, beside=(), probes=STEADY, kind="decode", rows=4, firsts=None):
    point = Point(kind=kind, rows=rows, depth=512, new_tokens=64)
    each = PointSamples(
        point=point,
        step="captured",
        runs=tuple(run(gap, first=first) for gap, first in zip(gaps, firsts or [0.5] * len(gaps), strict=True)),
        reference_runs=tuple(map(run, beside)),
        reference_first=(True,) * len(beside),
        probes_per_second=probes,
        read_rates=(0.95e9, 1.05e9),
        threads=1,
        seconds=12.0,
    )
    return SweepSamples(
        points=(each, PointSamples(point=Point(kind="prefill", rows=1, depth=8192, new_tokens=1), skipped="too long")),
        seed=3,
        temperature=0.7,
        activations="float32",
        bytes_per_token=1_000_000,
        cache_bytes_per_token=100,
    )


def test_the_figures_of_known_times():
    found = sweep(samples([0.01, 0.02, 0.04]), None)
    point, left_out = found.points
    assert left_out.skipped == "too long"
    assert left_out.rate is None
    assert (point.rate.count, point.rate.least, point.rate.most) == (3, pytest.approx(100), pytest.approx(400))
    assert point.rate.mean == pytest.approx((400 + 200 + 100) / 3, rel=1e-5)
    assert point.rate.deviation == pytest.approx(np.std([400, 200, 100], ddof=1), rel=1e-5)
    assert point.gap_sec.count == 3 * 63
    assert point.gap_percentiles["50"].estimate == pytest.approx(0.02)
    assert point.left_out == {"99.9": "189 gaps of the 1,000 that it takes"}
    assert list(point.gap_percentiles) == ["50", "90", "95", "99"]
    assert point.first_token_sec.mean == 0.5
    assert point.bytes_per_step == 1_000_000 + 4 * (512 + 32) * 100
    assert point.bound_tps == pytest.approx(4 * 1e9 / point.bytes_per_step)
    assert point.bound_share == pytest.approx(point.rate.mean / point.bound_tps)
    assert (point.ratio, point.ratio_suppressed, point.gap_ratios) == (None, "", {})
    assert point.read_gb_per_sec == found.read_gb_per_sec == pytest.approx(1)
    assert (found.seed, found.temperature, found.interleaved, found.time_sec) == (3, 0.7, False, 12.0)


def test_the_ratio_of_pairs_is_that_of_the_mean_logarithm():
    rng = np.random.default_rng(0)
    load = rng.uniform(1, 1.5, 20)  # slows both of a pair alike
    found = sweep(samples(0.01 * load * rng.normal(1, 0.01, 20), 0.02 * load), samples([1.0])).points[0]
    assert found.ratio.estimate == pytest.approx(2, rel=0.02)
    assert found.ratio.low < 2 < found.ratio.high < 1.1 * found.ratio.low
    assert found.gap_ratios["50"].estimate == pytest.approx(0.5, rel=0.1)
    assert found.reference_first == (True,) * 20


def test_without_pairs_both_sides_have_an_error():
    rng = np.random.default_rng(1)
    own, other = samples(0.01 * rng.normal(1, 0.05, 9)), samples(0.02 * rng.normal(1, 0.05, 9))
    alone = sweep(own, other).points[0].ratio
    assert alone.low < 2 < alone.high
    assert alone.high / alone.low > 1.05
    assert sweep(own, samples([0.01])).points[0].ratio is None  # one run says nothing of its error


@pytest.mark.parametrize(("own_rounds", "width"), [(1, 1.3), (3, 1.05)])
def test_prompts_of_unlike_lengths_are_held_against_themselves(own_rounds, width):
    """Equal models, of which one answered each prompt more often: as T1 compares runs of prompts. Of one run of each,
    which may be alike because they are neighbours, less is known.
    """
    rng, seconds = np.random.default_rng(2), (0.002, 0.003, 0.004, 0.005, 0.04)

    def answered(rounds):
        runs = [
            replace(
                run(gap * math.exp(rng.normal(0, 0.01)), first=50 * gap * math.exp(rng.normal(0, 0.01))), prompt=place
            )
            for _ in range(rounds)
            for place, gap in enumerate(seconds)
        ]
        whole = samples([0.01], kind="end to end", rows=1)
        return replace(whole, points=(replace(whole.points[0], runs=tuple(runs)),))

    found = sweep(answered(own_rounds), answered(2)).points[0]
    for ratio in (found.ratio, found.first_token_ratio):
        assert ratio.estimate == pytest.approx(1, abs=0.02)
        assert 1 < ratio.high / ratio.low < width


@pytest.mark.parametrize(
    ("probes", "reference_probes", "why"),
    [
        ((100.0, 100.0, 112.0), STEADY, "changed by +12% while it ran"),
        ((112.0, 100.0, 100.0), (106.0,) * 3, "changed by -11% while it ran"),
        ((100.0,) * 3, (80.0,) * 3, "changed by +25% from the reference's runs to its own"),
        ((100.0, 103.0, 100.0), STEADY, ""),
        ((100.0,) * 4 + (300.0,) + (100.0,) * 4 + (100.0,) * 3, STEADY, ""),  # a single odd one
    ],
)
def test_a_machine_that_changed_leaves_no_ratio(probes, reference_probes, why):
    own = samples([0.01, 0.011, 0.0102], probes=probes)
    found = sweep(own, samples([0.02, 0.021, 0.0195], probes=reference_probes)).points[0]
    assert why in found.ratio_suppressed
    assert (found.ratio is None) == bool(why)
    assert bool(found.gap_ratios) != bool(why)


def test_probes_of_interleaved_runs_are_held_against_each_other_only():
    own = samples([0.01, 0.011, 0.0102], [0.02, 0.021, 0.0195], probes=(100.0,) * 4)
    assert judged.suppressed(own.points[0], samples([0.1], probes=(10.0,) * 4).points[0]) == ""


@pytest.mark.parametrize(
    ("shares", "reads", "why"),
    [
        ((0.5,) * 6, (1e9,) * 4, "had a processor for 50% of their time"),
        ((0.99, 0.95, 0.98, 0.99, 0.97, 0.99), (1e9, 1.05e9, 0.97e9, 1e9), ""),
        ((0.99,) * 6, (1e9, 0.6e9, 0.98e9, 1e9), "other load took bandwidth"),
        ((None,) * 6, (1e9,) * 4, ""),  # an accelerator's
    ],
)
def test_other_load_leaves_no_ratio_by_the_rule_of_t1(shares, reads, why):
    point = samples([0.01, 0.011, 0.0102], [0.02, 0.021, 0.0195]).points[0]
    sides = [point.runs, point.reference_runs]
    runs, beside = (
        tuple(replace(each, cpu_share=share) for each, share in zip(side, shares[place::2], strict=True))
        for place, side in enumerate(sides)
    )
    point = replace(point, runs=runs, reference_runs=beside, read_rates=reads)
    found = sweep(replace(samples([0.01]), points=(point,)), samples([0.02])).points[0]
    assert why in found.ratio_suppressed
    assert (found.ratio is None) == bool(why)
    assert (found.cpu_share, found.reference_cpu_share) == pytest.approx(
        (shares[2], shares[3]) if shares[0] is None or why else (0.98, 0.99)
    )


def test_noise_of_the_probe_does_not_suppress_a_point_of_few_pairs():
    """Of one in 50, where one probe between two pairs suppressed one of three."""
    rng = np.random.default_rng(4)
    own = samples([0.01, 0.011, 0.0102], [0.02, 0.021, 0.0195]).points[0]
    noisy = [replace(own, probes_per_second=tuple(np.exp(rng.normal(0, 0.02, 4 * PROBED)))) for _ in range(200)]
    assert sum(bool(judged.suppressed(each, None)) for each in noisy) <= 6


def test_energy_is_told_of_a_run():
    whole = samples([0.01, 0.02], [0.03, 0.04])
    point = whole.points[0]
    point = replace(point, runs=tuple(replace(run, joules=2.0 + place) for place, run in enumerate(point.runs)))
    found = sweep(replace(whole, points=(point,)), None).points[0]
    assert (found.joules_per_run, found.reference_joules_per_run) == (2.5, None)
    apart = replace(point, point=replace(point.point, kind="end to end"))
    assert sweep(replace(whole, points=(apart,)), None).points[0].joules_per_run is None


def test_requests_tell_when_each_had_its_first_token():
    point = Point(kind="requests", rows=2, depth=512, new_tokens=3)
    gaps = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
    runs = tuple(
        PointRun(first_seconds=first, seconds=2.0, gaps_seconds=gaps, firsts_seconds=np.array([0.5, first], np.float32))
        for first in (1.0, 1.5)
    )
    each = PointSamples(point=point, runs=runs, probes_per_second=STEADY, step="module by module")
    base = samples([0.01])
    found = sweep(SweepSamples(**{**{name: getattr(base, name) for name in base.__slots__}, "points": (each,)}), None)
    told = found.points[0]
    assert told.rate.mean == pytest.approx(2 * 3 / 2.0)
    assert told.first_token_sec.count == 4
    assert told.first_token_percentiles["50"].estimate == pytest.approx(0.75)
    assert told.bound_share is None
