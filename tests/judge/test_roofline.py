"""The roofline of T1: simulated machines whose step is so much reading and so much overhead."""

import dataclasses
import math

import numpy as np
import pytest
from builders import make_throughput
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.judge import rates, roofline, speed_ratio
from pytest_quantbench.record import throughput_summary
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


def beside(recipe, reference):
    """The recipe, with the reference's runs and reads of the same session in between."""
    return dataclasses.replace(
        recipe,
        reference_runs=reference.runs,
        reference_bytes_per_token=reference.bytes_per_token,
        reference_read_rates=reference.read_rates,
    )


@pytest.mark.parametrize(
    ("overhead", "extra", "outcome"),
    [
        (0.001, 0.0, "pass"),  # most of a step reads
        (0.001, 0.01, "fail"),  # most of the reference's does, and the recipe has a slow kernel
        (0.05, 0.0, "informational"),  # a reference of overhead, and a recipe that is as slow
        (0.05, -0.01, "informational"),  # one whose overhead is a little smaller
        (0.05, -0.04, "pass"),  # one that is 3.6 times as fast, by whatever it does better
        (0.05, 0.004, "informational"),  # a step that takes about as long
        (0.05, 0.10, "fail"),  # a third of the speed: nothing that both have slows it down
        (0.0075, 0.030, "fail"),  # a reference that reads for 40 % of its time, and three times as slow
    ],
)
@pytest.mark.parametrize("interleaved", [False, True])
def test_overhead_excuses_ratios_between_one_and_the_limit(overhead, extra, outcome, interleaved):
    reference, recipe = steps(BF16, overhead), steps(BF16 * 0.28, overhead + extra, seed=1)
    if interleaved:
        recipe = beside(recipe, reference)
    verdict = speed_ratio.judge_throughput(recipe, reference, 1.5)
    assert verdict.outcome == outcome
    assert verdict.estimate is not None  # it is shown all the same
    assert verdict.not_judged == (roofline.BY_OVERHEAD if outcome == "informational" else "")


@pytest.mark.parametrize("alpha", [1e-14, 0.05])
def test_a_slow_kernel_is_no_overhead_at_any_look(alpha):
    """At a first look, whose own interval is endless, it is left open rather than excused."""
    recipe = steps(BF16 * 0.28, 0.0375, seed=1)
    found = speed_ratio.judge_throughput(recipe, steps(BF16, 0.0075), 1.5, alpha=alpha)
    assert found.outcome == ("fail" if alpha == 0.05 else "undecided")


def test_at_the_threshold_the_verdict_is_left_open_rather_than_drawn():
    """The reference reaches 46 % of its bound, give or take what the reads differ by: no draw excuses or fails it."""
    outcomes = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        reads = tuple(READ * rng.normal(1, 0.05, 6))
        reference = dataclasses.replace(steps(BF16, BF16 / READ * 0.537 / 0.463, seed), read_rates=reads)
        recipe = steps(BF16 * 0.28, BF16 / READ * 0.537 / 0.463, seed=1000 + seed)
        outcomes.append(speed_ratio.judge_throughput(beside(recipe, reference), reference, 1.5).outcome)
    assert outcomes.count("undecided") >= 95
    assert set(outcomes) <= {"undecided", "informational"}


def test_what_is_left_open_says_between_which_shares():
    reference = dataclasses.replace(steps(BF16, 0.006), read_rates=(0.9 * READ, 0.95 * READ, 1.05 * READ, 1.1 * READ))
    found = speed_ratio.judge_throughput(steps(BF16 / 4, 0.006, seed=1), reference, 1.55)
    assert (found.outcome, found.not_judged, found.p_bad) == ("undecided", "", 1.0)
    assert "so the ratio may tell of overhead alone: that share may be " in found.sentence
    assert found.needed == "more runs tell more exactly what of the reference's time is overhead"


def test_it_says_why_in_numbers():
    verdict = speed_ratio.judge_throughput(steps(BF16 / 4, 0.05, seed=1), steps(BF16, 0.05), 1.5)
    assert verdict.sentence.endswith(
        "The reference reaches 9.1 % of what reading its weights allows (18.1 of 200 tokens per second): by "
        "reading 4.0 × fewer bytes, one is at most 1.07 × as fast, so the ratio tells of overhead and is not judged by "
        "1.5 ×."
    )
    nobody = speed_ratio.judge_throughput(steps(BF16 / 4, 0.05, seed=1), steps(BF16, 0.05), 1.5, "on a toaster")
    assert (nobody.not_judged, "allows" in nobody.sentence) == ("on a toaster", False)  # one reason is enough
    assert speed_ratio.judge_throughput(steps(BF16 / 4, 0.05, seed=1), steps(BF16, 0.05), None).not_judged == ""


def test_a_recipe_that_runs_decoded_is_not_excused_by_its_bytes():
    """It reads what the reference reads: were that overhead, nothing that lacks a kernel could fail."""
    decoded, reference = steps(BF16, 0.001, seed=1), steps(BF16, 0.001)
    assert speed_ratio.judge_throughput(decoded, reference, 1.5).outcome == "fail"
    small = speed_ratio.judge_throughput(steps(BF16, 0.05, seed=1), steps(BF16, 0.05), 1.5)
    assert small.outcome == "informational"  # here not even reading nothing would help
    assert "by reading no weights at all, one is at most 1.10 × as fast" in small.sentence


def test_other_load_does_not_make_overhead_of_reading():
    """Beside three other programs everything takes four times as long: the reference still spends its time reading."""

    def beside_others(samples):
        runs = [dataclasses.replace(run, seconds=4 * run.seconds) for run in samples.runs]
        return dataclasses.replace(samples, runs=tuple(runs), read_rates=(READ / 4, READ / 4))

    reference, recipe = (beside_others(steps(size, 0.0005, seed)) for size, seed in ((BF16, 0), (BF16 / 4, 1)))
    assert roofline.own(reference).share == pytest.approx(0.91, abs=0.03)
    assert speed_ratio.judge_throughput(recipe, reference, 1.5).outcome == "pass"


def test_without_a_roofline_the_ratio_is_judged_as_it_is():
    recipe, reference = steps(BF16 / 4, 0.05, seed=1), steps(BF16, 0.05)
    for changes in ({"read_rates": ()}, {"bytes_per_token": None}):
        verdict = speed_ratio.judge_throughput(recipe, dataclasses.replace(reference, **changes), 1.5)
        assert verdict.outcome == "fail"


def test_of_interleaved_runs_the_reads_of_the_same_session_count():
    """The reference's own samples are of a day on which memory was read four times as fast: they say nothing here."""
    now, then = steps(BF16, 0.001), dataclasses.replace(steps(BF16, 0.001), read_rates=(4 * READ, 4 * READ))
    recipe = beside(steps(BF16 / 4, 0.001, seed=1), now)
    assert roofline.of_reference(recipe, then) == roofline.own(now)
    assert roofline.of_reference(dataclasses.replace(recipe, reference_runs=()), then) == roofline.own(then)
    untold = dataclasses.replace(recipe, reference_read_rates=())
    assert roofline.of_reference(untold, then) is None  # rather than of the other day


@pytest.mark.parametrize(("slowed", "then", "outcome"), [(4, 1, "pass"), (1, 8, "informational")])
def test_a_reference_of_another_day_changes_no_verdict(slowed, then, outcome):
    """One that was measured idle, and a session beside three other programs; and one measured beside seven."""
    overhead = 0.0005 if outcome == "pass" else 0.05

    def loaded(samples, times):
        runs = tuple(dataclasses.replace(run, seconds=times * run.seconds) for run in samples.runs)
        reads = tuple(read / times for read in samples.read_rates)
        return dataclasses.replace(samples, runs=runs, read_rates=reads)

    reference, recipe = (loaded(steps(size, overhead, seed), slowed) for size, seed in ((BF16, 0), (BF16 * 0.28, 1)))
    before = loaded(steps(BF16, overhead, 2), then)
    assert speed_ratio.judge_throughput(beside(recipe, reference), before, 1.5).outcome == outcome


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("which", ["own", "reference"])
def test_a_ratio_is_left_open_where_other_load_took_bandwidth(which, interleaved):
    reference, recipe = steps(BF16, 0.0005), steps(BF16 * 0.28, 0.0005, seed=1)
    loads = (0.6 * READ, 0.7 * READ, 0.9 * READ, READ)
    if which == "own":
        recipe = dataclasses.replace(recipe, read_rates=loads)
    else:
        reference = dataclasses.replace(reference, read_rates=loads)
    recipe = beside(recipe, reference) if interleaved else recipe
    found = speed_ratio.judge_throughput(recipe, reference, 1.5)
    assert (found.outcome, found.needed, found.p_good) == ("undecided", speed_ratio.AGAIN, 1.0)
    assert (found.estimate, found.low) == (None, None)
    assert "memory was read at 25.2 to 38.8 GB/s meanwhile: other load took bandwidth" in found.sentence
    assert speed_ratio.judge_throughput(recipe, reference, None).outcome == "informational"


def test_one_read_that_was_disturbed_leaves_nothing_open():
    reads = (0.5 * READ, *(19 * [READ]))
    reference, recipe = steps(BF16, 0.0005), dataclasses.replace(steps(BF16 / 4, 0.0005, seed=1), read_rates=reads)
    assert rates.suppressed(recipe, reference) == ""
    assert speed_ratio.judge_throughput(recipe, reference, 1.5).outcome == "pass"


def test_the_record_has_the_roofline_and_the_npz_what_it_is_made_of():
    reference = steps(BF16, 0.005)
    recipe = beside(steps(BF16 // 4, 0.005, seed=1, kernels={"a": 2}, step="captured"), reference)
    part = throughput_summary.throughput(recipe, reference)
    assert (part.bytes_per_token, part.read_gb_per_sec, part.bound_tps) == (BF16 // 4, 40.0, 800.0)
    assert part.bound_share == pytest.approx(part.mean_tps / 800)
    assert part.reference_bound_share == pytest.approx(0.5, abs=0.02)
    assert (part.kernels, part.step) == ({"a": 2}, "captured")
    arrays = raw_throughput(recipe)
    np.testing.assert_array_equal(arrays["throughput/read_bytes_per_second"], [0.9 * READ, READ, 1.1 * READ])
    np.testing.assert_array_equal(arrays["throughput/reference_read_bytes_per_second"], reference.read_rates)
    assert arrays["throughput/bytes_per_token"].tolist() == [BF16 // 4]
    alone = throughput_summary.throughput(make_throughput([[1.0], [2.0]]), None)
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
        wrong += speed_ratio.judge_throughput(recipe, reference, 1.5).outcome != "undecided"
    assert wrong / trials < 0.10 + 3 * math.sqrt(0.1 * 0.9 / trials)
