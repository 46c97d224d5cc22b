"""File error and engine error with known answers."""

import numpy as np
import pytest
from builders import make_losses

from pytest_quantbench.engines.divergence import Fidelity
from pytest_quantbench.measures.runtime.samples import RuntimeSamples
from pytest_quantbench.measures.throughput_samples import Run
from pytest_quantbench.record.raw import raw
from pytest_quantbench.record.runtime_summary import runtime
from pytest_quantbench.stats import series

COUNT = 640


def fidelity(count, likeliest=None, kl=0.0):
    return Fidelity(
        kl_nats=np.full(count, kl, np.float32),
        error_nats=np.zeros(count, np.float32),
        same_top=np.ones(count, bool),
        likeliest=np.zeros(count, np.uint32) if likeliest is None else likeliest,
    )


def generation(prompt, gaps, first=0.5):
    return Run(
        prompt=prompt,
        prompt_tokens=10,
        new_tokens=len(gaps) + 1,
        seconds=first + sum(gaps),
        first_token_seconds=first,
        prefill_tokens_per_second=10 / first,
        latencies_seconds=np.array(gaps, np.float32),
        tokens=(1,) * (len(gaps) + 1),
        text="",
    )


def make_ran(nll, **changes):
    fields = {
        "runtime": "llama.cpp",
        "version": "llama-cpp-python 1",
        "how": "2 threads",
        "nll_nats": np.asarray(nll, np.float32),
        "fidelity": fidelity(len(nll), kl=0.25),
        "window_tokens": np.array([200, 100]),
        "window_seconds": np.array([1.0, 0.5]),
        "load_seconds": np.array([0.5, 0.1, 0.3]),
        "warm_up": generation(0, [9.0, 9.0]),
        "runs": (generation(0, [0.1, 0.3]), generation(1, [0.25, 0.25], first=2.0)),
        "before_bytes": 10**8,
        "peak_bytes": 10**9,
    }
    return RuntimeSamples(**fields | changes)


def drawn(seed, spread):
    return np.random.default_rng(seed).normal(0, spread, COUNT)


def test_the_two_errors_are_told_apart_and_add_up():
    reference = 3 + drawn(0, 1.0)
    lost, added = 0.125 + drawn(1, 0.02), 0.0625 + drawn(2, 0.01)
    walked = make_losses(reference + lost, fidelity=fidelity(COUNT, kl=0.125))
    found = runtime(make_ran(reference + lost + added), walked, make_losses(reference))
    assert found.file_error.mean_nats == pytest.approx(lost.mean(), abs=1e-6)
    assert found.engine_error.mean_nats == pytest.approx(added.mean(), abs=1e-6)
    for part, values in ((found.file_error, lost), (found.engine_error, added)):
        known = series.mean(values).interval()
        assert part.interval.estimate == pytest.approx(part.mean_nats)
        assert part.interval.low == pytest.approx(known.low, rel=1e-3)
        assert part.interval.high == pytest.approx(known.high, rel=1e-3)
    assert found.engine_error.rms_nats == pytest.approx(np.sqrt((added**2).mean()), rel=1e-4)
    assert found.engine_error.largest_nats == pytest.approx(np.abs(added).max(), rel=1e-4)
    assert np.log(found.ppl / found.bf16_ppl) == pytest.approx((lost + added).mean(), abs=1e-6)
    assert np.log(found.walk_ppl / found.bf16_ppl) == pytest.approx(lost.mean(), abs=1e-6)
    assert (found.kl_nats, found.walk_kl_nats) == (0.25, 0.125)


def test_the_error_is_paired():
    """Far narrower than of two texts for themselves: what the tokens have in common is not counted."""
    reference, added = 3 + drawn(0, 2.0), drawn(1, 0.001)
    walked = make_losses(reference, fidelity=fidelity(COUNT))
    interval = runtime(make_ran(reference + added), walked, make_losses(reference)).engine_error.interval
    assert interval.high - interval.low < 0.01 * series.mean(reference).standard_error


def test_nothing_added_is_nothing_and_has_no_interval():
    reference = 3 + drawn(0, 1.0)
    walked = make_losses(reference, fidelity=fidelity(COUNT))
    found = runtime(make_ran(reference), walked, make_losses(reference)).engine_error
    assert (found.mean_nats, found.rms_nats, found.largest_nats, found.interval) == (0, 0, 0, None)
    assert found.same_top.estimate == 1


def test_tokens_that_t2_read_later_are_left_out():
    reference, lost = 3 + drawn(0, 1.0), drawn(1, 0.1)
    walked = make_losses(reference + lost, fidelity=fidelity(COUNT))
    found = runtime(make_ran((reference + lost)[:128] + 0.5), walked, make_losses(reference))
    assert found.tokens == 128
    assert found.engine_error.mean_nats == pytest.approx(0.5, abs=1e-6)
    assert found.file_error.mean_nats == pytest.approx(lost[:128].mean(), abs=1e-6)


def test_the_same_choice_is_that_of_runtime_and_walk_not_of_the_reference():
    reference = 3 + drawn(0, 1.0)
    ours, theirs = np.zeros(COUNT, np.uint32), np.zeros(COUNT, np.uint32)
    ours[::4] = 7
    theirs[::4] = 7
    theirs[::8] = 9
    walked = make_losses(reference, fidelity=fidelity(COUNT, ours))
    ran = make_ran(reference, fidelity=fidelity(COUNT, theirs))
    assert runtime(ran, walked, make_losses(reference)).engine_error.same_top.estimate == pytest.approx(7 / 8)


def test_rates_leave_the_first_token_out_and_the_warm_up():
    reference = 3 + drawn(0, 1.0)
    found = runtime(make_ran(reference), make_losses(reference, fidelity=fidelity(COUNT)), make_losses(reference))
    speed = found.speed
    assert (speed.load_sec, speed.load_secs) == (pytest.approx(0.3), (0.5, 0.1, 0.3))
    assert speed.reading_tps == pytest.approx(200)
    assert speed.prefill_tps == pytest.approx((10 / 0.5 + 10 / 2) / 2)
    assert speed.first_token_sec == pytest.approx(1.25)
    assert speed.decode_tps == pytest.approx((2 / 0.4 + 2 / 0.5) / 2)
    assert speed.decode_tps_std == pytest.approx(np.std([5, 4], ddof=1))
    assert speed.gap_sec["50"] == pytest.approx(0.25)
    assert list(speed.gap_sec) == ["50", "90", "95", "99"]
    assert speed.gap_sec["50"] < speed.gap_sec["90"] < speed.gap_sec["99"] < 0.3 + 1e-6
    assert speed.runs == 2
    assert (found.peak_gb, found.before_gb) == (1.0, 0.1)


def test_the_arrays_beside_the_record_are_all_that_was_kept():
    found = raw({"runtime": make_ran([1.0, 2.0])})
    assert found["runtime/nll_nats"].tolist() == [1.0, 2.0]
    assert found["runtime/latencies_seconds"].shape == (2, 2)
    assert {"runtime/kl_nats", "runtime/likeliest", "runtime/load_seconds", "runtime/window_seconds"} <= found.keys()
    assert not any(array.dtype == object for array in found.values())
