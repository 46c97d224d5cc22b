"""Rates of different times: compared only where the machine's own speed stayed what it was."""

import dataclasses
import math

import pytest
import terminal_text
from builders import make_record, make_throughput

from pytest_quantbench.judge import rates as speed
from pytest_quantbench.judge import speed_ratio
from pytest_quantbench.record import throughput_summary

PLAIN = make_throughput([[10, 10.1], [11, 11.1], [12, 11.9]])


def at(rates_factor, before, after, **changes):
    """Runs of so many times PLAIN's rates, with the machine's own speed before and after them."""
    rates = [[rates_factor * run.tokens_per_second for run in PLAIN.runs if run.prompt == p] for p in range(3)]
    for place, factor in enumerate((1.0, 1.01, 0.99)):  # prompts differ a little
        rates[place] = [factor * rate for rate in rates[place]] if rates_factor != 1.0 else rates[place]
    return dataclasses.replace(make_throughput(rates), probes_per_second=(before, after), **changes)


def test_the_same_cell_twice_beside_other_load_gives_no_ratio_instead_of_two():
    """1.40 and 0.46 with narrow intervals: in the one the machine became faster meanwhile, in the other slower."""
    reference = at(1.0, 100.0, 101.0)
    for factor, probes, told in ((1.4, (100.0, 269.0), r"+169% while it ran"), (0.46, (99.0, 40.0), "-60%")):
        cell = at(factor, *probes)
        for why, outcome in (("nobody deploys it", "informational"), ("", "undecided")):
            verdict = speed_ratio.judge_throughput(cell, reference, 1.5, why)
            assert (verdict.outcome, verdict.estimate, verdict.low) == (outcome, None, None)
            assert f"the machine's own speed changed by {told}" in verdict.sentence
            assert bool(verdict.needed) == (not why)
        part = throughput_summary.throughput(cell, reference)
        assert part.ratio is None
        assert told in part.ratio_suppressed
        record = make_record(throughput=part, verdicts=(verdict,))
        assert "×" not in terminal_text.row(record)
        told = "speed: no ratio for Tiny-int4, as what else the machine did changed their speed"
        assert told in terminal_text.shown([record])


@pytest.mark.parametrize(
    ("cell", "reference", "when"),
    [
        ((100, 94), (100, 100), "-6% while it ran"),
        ((100, 100), (100, 94), "-6% while the reference ran"),
        ((100, 100), (80, 80), "+25% from the reference's runs to its own"),  # kept from another day, say
        ((80, 81), (100, 100), "-20% from the reference's runs to its own"),
        ((100, 103), (97, 100), "+6% from the reference's runs to its own"),  # each drifted less than the limit
    ],
)
def test_drift_of_either_and_between_both_suppresses_the_ratio(cell, reference, when):
    assert speed.suppressed(at(2.0, *cell), at(1.0, *reference)) == f"the machine's own speed changed by {when}"
    assert speed.ratio(at(2.0, *cell), at(1.0, *reference)) is None


def test_a_machine_that_stayed_as_it_was_gives_a_ratio():
    cell, reference = at(2.0, 100, 103), at(1.0, 102, 99)
    assert speed.suppressed(cell, reference) == ""
    assert speed.ratio(cell, reference).value == pytest.approx(2.0, rel=1e-4)
    part = throughput_summary.throughput(cell, reference)
    assert part.ratio.low < 2.0 < part.ratio.high
    assert (part.probe_drift, part.reference_probe_drift) == (pytest.approx(0.03), pytest.approx(-3 / 102))
    assert part.probe_change == pytest.approx(103 / 99 - 1)
    assert "int4 – – 2.00 [" in terminal_text.row(make_record(throughput=part), 120)


def test_runs_beside_the_references_are_no_exception():
    """What slows both slows them by different factors. What the reference's own runs stood beside is another matter."""
    reference = at(1.0, 10, 10)
    cell = at(2.0, 100, 102, reference_runs=reference.runs)
    assert speed.suppressed(cell, reference) == ""
    assert speed.ratio(cell, reference).value == pytest.approx(2.0, rel=1e-4)
    assert speed.drift(cell, reference) == speed.Drift(own=pytest.approx(0.02), reference=None, between=None)
    part = throughput_summary.throughput(at(2.0, 100, 200, reference_runs=reference.runs), reference)
    assert (part.ratio, part.gap_ratio) == (None, {})
    assert part.ratio_suppressed == "the machine's own speed changed by +100% while it ran"


def test_probes_between_the_runs_show_load_that_came_and_went():
    """Before and after the machine was as fast: two probes would say nothing of the half in between."""
    quiet, loaded = [100.0, 101.0, 99.0, 100.0], [61.0, 60.0, 59.0, 60.0]
    probes = (*quiet, *loaded, *loaded, *quiet)
    assert speed.levels(probes) == [100.0, 60.0, 60.0, 100.0]
    cell = dataclasses.replace(PLAIN, probes_per_second=probes)
    assert speed.probe_drift(cell) == pytest.approx(-0.4)  # as large as the way back
    odd = dataclasses.replace(PLAIN, probes_per_second=(*quiet, 40.0, *quiet, *quiet, *quiet))
    assert abs(speed.probe_drift(odd)) < 0.02  # one that was interrupted


@pytest.mark.parametrize(
    ("shares", "threads", "told"),
    [
        ([0.99, 0.98, 0.99, 1.0], 1, ""),
        ([0.99, 0.5, 0.99, 1.0, 0.99, 0.99, 1.0, 0.99, 0.99, 1.0, 0.99, 0.98], 1, ""),  # one that had to wait
        ([0.5, 0.51, 0.5, 0.52], 1, "its runs or the reference's had a processor for 50% of their time"),
        ([1.9, 1.9, 1.88, 1.91], 2, ""),
        ([1.2, 1.2, 1.19, 1.2], None, ""),  # where nothing tells how much there should be
        ([1.9, 1.0, 1.9, 1.0, 1.9, 1.0], 2, "runs had 69% to 131% of the processors' time that is"),
    ],
)
def test_runs_that_waited_for_a_processor_have_no_ratio(shares, threads, told):
    runs = tuple(dataclasses.replace(PLAIN.runs[0], cpu_share=share) for share in shares)
    cell = dataclasses.replace(PLAIN, runs=runs, threads=threads)
    assert speed.suppressed(cell, PLAIN).startswith(told)
    assert bool(speed.suppressed(cell, PLAIN)) == bool(told)
    assert speed.cpu_share(runs) == pytest.approx(sorted(shares)[len(shares) // 2], abs=0.5)
    assert speed.cpu_share(PLAIN.runs) is None
    assert speed_ratio.hopeless(cell, PLAIN) == bool(told)


def with_shares(samples, shares, **changes):
    """In the order of its runs, of which prompts are the first two, again and again."""
    runs = [
        dataclasses.replace(samples.runs[0], prompt=place % 2, cpu_share=share) for place, share in enumerate(shares)
    ]
    return dataclasses.replace(samples, runs=tuple(runs), **changes)


def test_prompts_that_leave_threads_unlike_work_are_no_other_load():
    """Of eight threads a short prompt has work for two processors, a long one for five: the same every time."""
    cell = with_shares(PLAIN, [2.0, 5.0] * 5, threads=8)
    assert speed.suppressed(cell, PLAIN) == ""
    moved = with_shares(PLAIN, [2.0, 5.0, 2.0, 5.0, 2.0, 5.0, 1.2, 3.0, 1.2, 3.0], threads=8)
    assert "60% to 100% of the processors' time that is usual for them" in speed.suppressed(moved, PLAIN)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_load_that_takes_processors_all_the_time_is_seen_on_several_threads_too(threads):
    """Every run has the same: only what could be had tells."""
    quiet = with_shares(PLAIN, [0.95] * 10, threads=threads, processors_had=(0.99,) * 11 + (0.5,))  # once
    loaded = dataclasses.replace(quiet, processors_had=(0.5, 0.52, 0.5, 0.51))
    assert speed.suppressed(quiet, quiet) == ""
    for pair in ((loaded, quiet), (quiet, loaded)):
        assert "of the processors' time that its threads ask for was to be had" in speed.suppressed(*pair)
    beside = dataclasses.replace(quiet, reference_runs=quiet.runs)
    assert speed.suppressed(beside, loaded) == ""  # those stood beside other runs
    comes = dataclasses.replace(quiet, processors_had=(1.0, 1.0, 1.0, 1.0, 0.7, 0.7))
    assert "70% to 100% of the processors' time" in speed.suppressed(comes, quiet)
    assert throughput_summary.throughput(loaded, quiet).processors_had == pytest.approx(0.505)
    assert throughput_summary.throughput(PLAIN, quiet).processors_had is None


def test_half_and_double_are_equally_large():
    drift = speed.Drift(own=1.0, reference=-0.51, between=0.9)
    assert drift.worst == (-0.51, "while the reference ran")
    assert speed.drift(PLAIN, None) == speed.Drift(own=0.0, reference=None, between=None)
    assert speed.mean_rate(PLAIN) == pytest.approx(math.fsum([10, 10.1, 11, 11.1, 12, 11.9]) / 6)
