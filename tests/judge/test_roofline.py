"""The roofline of T1: simulated machines whose step is so much reading and so much overhead."""

import dataclasses
import math

import numpy as np
import pytest
from builders import make_throughput
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.judge import roofline, rules
from pytest_quantbench.record import summary
from pytest_quantbench.record.raw import raw_throughput

READ = 40e9  # bytes per second of memory
BF16 = 200_000_000  # bytes per token


def steps(bytes_per_token, overhead_seconds, seed=0, **changes):
    """Runs whose every token takes the reading of its bytes and so much more, give or take a percent."""
    rng = np.random.default_rng(seed)
    seconds = bytes_per_token / READ + overhead_seconds
    rates = (rng.normal(1, 0.01, (5, 3)) / seconds).tolist()
    samples = make_throughput(rates)
    return dataclasses.replace(
        samples, bytes_per_token=bytes_per_token, read_rates=(0.9 * READ, READ, 1.1 * READ), **changes
    )


def test_a_model_that_only_reads_is_at_its_bound():
    found = roofline.own(steps(BF16, 0.0))
    assert found.bound == pytest.approx(READ / BF16)
    assert found.share == pytest.approx(1, abs=0.02)
    assert roofline.own(steps(BF16, BF16 / READ)).share == pytest.approx(0.5, abs=0.01)
    assert roofline.own(dataclasses.replace(steps(BF16, 0.0), bytes_per_token=None)) is None
    assert roofline.own(dataclasses.replace(steps(BF16, 0.0), read_rates=())) is None


@given(share=st.floats(0.01, 0.99), read=st.floats(0.0, 1.0))
def test_reading_less_saves_what_reading_took(share, read):
    """By the definition: a second of the reference has `share` seconds of reading, of which `read` are left."""
    assert roofline.largest_ratio(share, read) == pytest.approx(1 / ((1 - share) + share * read))


@pytest.mark.parametrize(("share", "read", "expected"), [(1.0, 0.25, 4.0), (1.5, 0.25, 4.0), (1.0, 0.0, math.inf)])
def test_in_caches_the_bytes_alone_count(share, read, expected):
    assert roofline.largest_ratio(share, read) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("overhead", "extra", "outcome"),
    [
        (0.001, 0.0, "pass"),  # most of a step reads
        (0.001, 0.01, "fail"),  # most of the reference's does, and the recipe has a slow kernel
        (0.05, 0.0, "informational"),  # a reference of overhead, and a recipe that is as slow
        (0.05, -0.04, "informational"),  # one whose overhead happens to be a fifth: 3.6 times as fast, not by its bits
        (0.05, 0.10, "informational"),  # and one whose overhead is greater
    ],
)
@pytest.mark.parametrize("interleaved", [False, True])
def test_a_ratio_of_overheads_is_not_judged(overhead, extra, outcome, interleaved):
    reference, recipe = steps(BF16, overhead), steps(BF16 * 0.28, overhead + extra, seed=1)
    if interleaved:
        recipe = dataclasses.replace(recipe, reference_runs=reference.runs)
    verdict = rules.judge_throughput(recipe, reference, 1.5)
    assert verdict.outcome == outcome
    assert verdict.estimate is not None  # it is shown all the same
    assert verdict.not_judged == (roofline.BY_OVERHEAD if outcome == "informational" else "")


def test_it_says_why_in_numbers():
    verdict = rules.judge_throughput(steps(BF16 / 4, 0.05, seed=1), steps(BF16, 0.05), 1.5)
    assert verdict.sentence.endswith(
        "The reference reaches 9.1 % of what reading its weights allows (18.1 of 200 tokens per second): by "
        "reading 4.0 × fewer bytes, one is at most 1.07 × as fast, so the ratio tells of overhead and is not judged by "
        "1.5 ×."
    )
    nobody = rules.judge_throughput(steps(BF16 / 4, 0.05, seed=1), steps(BF16, 0.05), 1.5, "on a toaster")
    assert (nobody.not_judged, "allows" in nobody.sentence) == ("on a toaster", False)  # one reason is enough
    assert rules.judge_throughput(steps(BF16 / 4, 0.05, seed=1), steps(BF16, 0.05), None).not_judged == ""


def test_a_recipe_that_runs_decoded_is_not_excused_by_its_bytes():
    """It reads what the reference reads: were that overhead, nothing that lacks a kernel could fail."""
    decoded, reference = steps(BF16, 0.001, seed=1), steps(BF16, 0.001)
    assert rules.judge_throughput(decoded, reference, 1.5).outcome == "fail"
    small = rules.judge_throughput(steps(BF16, 0.05, seed=1), steps(BF16, 0.05), 1.5)
    assert small.outcome == "informational"  # here not even reading nothing would help
    assert "by reading no weights at all, one is at most 1.10 × as fast" in small.sentence


def test_other_load_does_not_make_overhead_of_reading():
    """Beside three other programs everything takes four times as long: the reference still spends its time reading."""

    def beside_others(samples):
        runs = [dataclasses.replace(run, seconds=4 * run.seconds) for run in samples.runs]
        return dataclasses.replace(samples, runs=tuple(runs), read_rates=(READ / 4, READ / 4))

    reference, recipe = (beside_others(steps(size, 0.0005, seed)) for size, seed in ((BF16, 0), (BF16 / 4, 1)))
    assert roofline.own(reference).share == pytest.approx(0.91, abs=0.03)
    assert rules.judge_throughput(recipe, reference, 1.5).outcome == "pass"


def test_without_a_roofline_the_ratio_is_judged_as_it_is():
    recipe, reference = steps(BF16 / 4, 0.05, seed=1), steps(BF16, 0.05)
    for changes in ({"read_rates": ()}, {"bytes_per_token": None}):
        verdict = rules.judge_throughput(recipe, dataclasses.replace(reference, **changes), 1.5)
        assert verdict.outcome == "fail"


def test_of_interleaved_runs_the_references_own_count():
    quiet, busy = steps(BF16, 0.001), steps(BF16, 0.05)
    recipe = dataclasses.replace(steps(BF16 / 4, 0.001, seed=1), reference_runs=quiet.runs)
    assert roofline.of_reference(recipe, busy).share == pytest.approx(roofline.own(quiet).share)
    assert roofline.of_reference(dataclasses.replace(recipe, reference_runs=()), busy).share < 0.1


def test_the_record_has_the_roofline_and_the_npz_what_it_is_made_of():
    reference = steps(BF16, 0.005)
    recipe = steps(BF16 // 4, 0.005, seed=1, kernels={"a": 2}, step="captured", reference_runs=reference.runs)
    part = summary.throughput(recipe, reference)
    assert (part.bytes_per_token, part.read_gb_per_sec, part.bound_tps) == (BF16 // 4, 40.0, 800.0)
    assert part.bound_share == pytest.approx(part.mean_tps / 800)
    assert part.reference_bound_share == pytest.approx(0.5, abs=0.02)
    assert (part.kernels, part.step) == ({"a": 2}, "captured")
    arrays = raw_throughput(recipe)
    np.testing.assert_array_equal(arrays["throughput/read_bytes_per_second"], [0.9 * READ, READ, 1.1 * READ])
    assert arrays["throughput/bytes_per_token"].tolist() == [BF16 // 4]
    alone = summary.throughput(make_throughput([[1.0], [2.0]]), None)
    assert (alone.bytes_per_token, alone.bound_share, alone.reference_bound_share) == (None, None, None)


@pytest.mark.parametrize("slowed", [0.5, 0.1])
def test_bursts_of_other_load_widen_the_interval_and_are_rarely_sure_of_a_wrong_ratio(slowed):
    """Load comes and goes while both run in turn: the true ratio is 1.5, and passing or failing there is wrong."""
    rng, wrong, trials = np.random.default_rng(3), 0, 300
    for _ in range(trials):
        busy = np.repeat(rng.random(6) < 0.4, 5)  # of 30 runs in turn, in stretches of five
        speed = np.where(busy, slowed, 1.0) * rng.normal(1, 0.02, 30)
        rates = [(np.array([100.0, 150.0])[place % 2] * speed[place]) for place in range(30)]
        reference = make_throughput([[rates[2 * (5 * run + p)] for run in range(3)] for p in range(5)])
        recipe = make_throughput([[rates[2 * (5 * run + p) + 1] for run in range(3)] for p in range(5)])
        recipe = dataclasses.replace(recipe, reference_runs=reference.runs)
        wrong += rules.judge_throughput(recipe, reference, 1.5).outcome != "undecided"
    assert wrong / trials < 0.10 + 3 * math.sqrt(0.1 * 0.9 / trials)
