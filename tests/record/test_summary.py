"""The plan's names have the plan's meanings: figures of known samples, computed by hand."""

import dataclasses
import math
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from builders import make_losses, make_task, make_throughput

from pytest_quantbench.compress.assignment import Tensor
from pytest_quantbench.engines.process_memory import ProcessPeak
from pytest_quantbench.measures.samples import AccuracySamples, TensorError, WeightSamples
from pytest_quantbench.measures.throughput_samples import Memory
from pytest_quantbench.record import perplexity_summary, summary, throughput_summary

PLAN = {  # what the plan's records have, by part
    "compression": {"original_gb", "compressed_gb", "ratio", "time_sec"},
    "throughput": {"mean_tps", "std_tps", "p95_tps", "runs"},
    "perplexity": {"ppl", "bf16_ppl", "delta"},
    "accuracy": {"arc_easy", "hellaswag", "combined", "bf16_combined", "delta"},
}


def has_the_plans_names(part, name):
    values = msgspec.to_builtins(part)
    assert values.keys() >= PLAN[name]
    return values


def test_compression_ratio_is_the_share_that_is_left():
    tensor = Tensor(
        name="w", shape=(1000,), quantizer="rtn", parameters={}, part="inner", arrays=(), stored_bytes=558, note=""
    )
    manifest = SimpleNamespace(
        calibration={},
        tensors=[tensor],
        bf16_bytes=2000,
        stored_bytes=558,
        seconds=95.0,
        key="k",
        source_dtype="",
        opens_in_mlx_lm=False,
    )
    values = has_the_plans_names(summary.compression(manifest), "compression")
    assert values["ratio"] == pytest.approx(0.279)
    assert values["times_smaller"] == pytest.approx(3.584, abs=1e-3)
    assert (values["original_gb"], values["compressed_gb"], values["time_sec"]) == (2e-6, 5.58e-7, 95.0)


def test_throughput_counts_runs_of_each_prompt():
    samples = make_throughput([[10, 12, 14], [20, 22, 24]])
    values = has_the_plans_names(throughput_summary.throughput(samples, None), "throughput")
    rates = [10, 12, 14, 20, 22, 24]
    assert (values["runs"], values["total_runs"]) == (3, 6)
    assert values["mean_tps"] == pytest.approx(17)
    assert values["std_tps"] == pytest.approx(math.sqrt(sum((rate - 17) ** 2 for rate in rates) / 5))
    assert values["p95_tps"] == pytest.approx(10.5)  # a quarter of the way from the slowest to the second
    assert (values["ratio"], values["ratio_suppressed"]) == (None, "")


def test_perplexity_delta_is_in_points():
    quantized, reference = (
        make_losses([math.log(6.0), math.log(24.0)] * 64),
        make_losses([math.log(5.0), math.log(20.0)] * 64),
    )
    values = has_the_plans_names(perplexity_summary.perplexity(quantized, reference), "perplexity")
    assert (values["ppl"], values["bf16_ppl"]) == (pytest.approx(12.0, rel=1e-6), pytest.approx(10.0, rel=1e-6))
    assert values["delta"] == pytest.approx(2.0, rel=1e-5)


def answered(**right):
    """T3 of tasks of 500 questions, the first so many right."""
    tasks = {name: make_task(np.arange(500) < count) for name, count in right.items()}
    available = dict.fromkeys(tasks, 500)
    return AccuracySamples(tasks=tasks, available=available, cut_contexts=0, weights_sha256="w", seconds=1.0)


def test_accuracy_delta_is_a_fraction():
    quantized, reference = answered(arc_easy=380, hellaswag=262), answered(arc_easy=400, hellaswag=280)
    values = has_the_plans_names(summary.accuracy(quantized, reference), "accuracy")
    assert (values["arc_easy"], values["hellaswag"]) == (0.76, 0.524)
    assert values["combined"] == pytest.approx(0.642)
    assert values["bf16_combined"] == pytest.approx(0.68)
    assert values["delta"] == pytest.approx(-0.038)  # combined minus bf16_combined
    assert values["delta_points"] == pytest.approx(-3.8)
    assert values["tasks"]["arc_easy"]["drop_points"]["estimate"] == pytest.approx(4.0)


def test_what_has_no_reference_has_no_delta():
    values = has_the_plans_names(summary.accuracy(answered(arc_easy=380), None), "accuracy")
    assert (values["bf16_combined"], values["delta"], values["delta_points"]) == (None, None, None)
    assert values["hellaswag"] is None


def test_clusters_of_a_task_stand_in_the_record():
    names = tuple(str(n // 10) for n in range(500))
    before, after = answered(piqa=400), answered(piqa=360)
    before, after = (
        dataclasses.replace(
            each, tasks={"piqa": dataclasses.replace(each.tasks["piqa"], clusters=names, cluster_key="passage")}
        )
        for each in (before, after)
    )
    found = summary.accuracy(after, before).tasks["piqa"]
    assert (found.clusters, found.cluster_key) == (50, "passage")
    assert found.flip_correlation == pytest.approx(1.0)  # four whole passages were lost
    assert found.design_effect > 9
    alone = summary.accuracy(answered(piqa=360), answered(piqa=400)).tasks["piqa"]
    assert (alone.clusters, alone.flip_correlation, alone.design_effect) == (500, None, 1.0)
    assert found.drop_points.high > alone.drop_points.high + 5


def timed(gaps_by_prompt, first_token_seconds):
    """T1 of one run for each prompt with these times from token to token."""
    samples = make_throughput([[10.0]] * len(gaps_by_prompt))
    runs = tuple(
        dataclasses.replace(run, latencies_seconds=np.array(gaps, np.float32), first_token_seconds=first)
        for run, gaps, first in zip(samples.runs, gaps_by_prompt, first_token_seconds, strict=True)
    )
    return dataclasses.replace(samples, runs=runs)


def test_times_between_tokens_have_percentiles_with_intervals():
    rng = np.random.default_rng(0)
    drawn = rng.gamma(4, 0.01, (5, 200)).astype(np.float32)
    found = throughput_summary.throughput(timed(drawn, [0.1, 0.2, 0.3, 0.2, 0.2]), None)
    assert (found.new_tokens, found.gaps) == (100, 1000)
    assert list(found.gap_sec) == ["50", "90", "95", "99", "99.9"]
    for name, each in found.gap_sec.items():
        assert each.estimate == pytest.approx(np.percentile(drawn, float(name)))
    assert found.gap_sec["50"].low < found.gap_sec["50"].estimate < found.gap_sec["50"].high
    assert found.gap_sec["99.9"].high is None  # a thousand times do not tell it
    assert found.first_token.estimate == pytest.approx(0.2) == found.first_token_sec
    half = 2.132 * np.std([0.1, 0.2, 0.3, 0.2, 0.2], ddof=1) / math.sqrt(5)  # Student's t of four degrees
    assert found.first_token.high - 0.2 == pytest.approx(half, rel=1e-3)


def test_times_that_are_all_alike_have_no_interval_of_the_mean():
    found = throughput_summary.throughput(timed(np.full((5, 20), 0.01), [0.1] * 5), None)
    assert found.first_token is None
    assert found.gap_sec["50"].low == found.gap_sec["50"].high == pytest.approx(0.01)


@pytest.mark.parametrize("since", ["measure", "process"])
def test_the_memory_of_the_process_says_since_when(since):
    peak = ProcessPeak(peak_bytes=3_000_000_000, since=since)
    memory = Memory(
        peak_bytes=1, process_peak=peak, before_bytes=10**9, resident_bytes=25 * 10**8, reserved_bytes=10**9
    )
    samples = dataclasses.replace(make_throughput([[2.0]]), memory=memory)
    found = throughput_summary.throughput(samples, None)
    assert (found.process_peak_gb, found.process_peak_since) == (3.0, since)
    assert (found.resident_gb, found.resident_added_gb, found.reserved_gb) == (2.5, 1.5, 1.0)
    older = throughput_summary.throughput(make_throughput([[2.0]]), None)
    assert (older.process_peak_gb, older.process_peak_since) == (None, None)
    assert (older.resident_gb, older.resident_added_gb, older.reserved_gb) == (None, None, None)


def test_an_accuracy_has_its_own_interval_and_sources_widen_it():
    before = answered(piqa=400)
    alone = summary.accuracy(before, None).tasks["piqa"].accuracy_interval
    assert (alone.estimate, alone.confidence) == (0.8, 0.9)
    assert alone.low < 0.8 < alone.high
    task = dataclasses.replace(before.tasks["piqa"], clusters=tuple(str(n // 10) for n in range(500)))
    clustered = summary.accuracy(dataclasses.replace(before, tasks={"piqa": task}), None).tasks["piqa"]
    assert clustered.accuracy_interval.low < alone.low - 0.05


def test_a_perplexity_has_its_own_interval():
    nll = np.random.default_rng(0).gamma(1, 2, 4096)
    found = perplexity_summary.perplexity(make_losses(nll), None)
    assert found.ppl_interval.estimate == pytest.approx(found.ppl, rel=1e-6)
    half = 1.645 * np.std(nll) / math.sqrt(len(nll))  # independent tokens
    assert math.log(found.ppl_interval.high / found.ppl) == pytest.approx(half, rel=0.3)
    assert perplexity_summary.perplexity(make_losses([2.0] * 128), None).ppl_interval is None  # nothing tells its error
    assert perplexity_summary.perplexity(make_losses(nll + 800), None).ppl_interval is None  # no perplexity either


def test_the_matrix_whose_direction_changed_most_is_named():
    tensor = TensorError(
        name="a", quantizer="rtn", weights=4, bits_per_weight=4.5, snr_db=20.0, cosine=0.999, largest_error=0.1, note=""
    )
    worse = dataclasses.replace(tensor, name="b", cosine=0.9, snr_db=25.0)
    found = summary.weights(WeightSamples(tensors=(tensor, worse)))
    assert (found.least_cosine, found.least_cosine_tensor, found.matrices) == (0.9, "b", 2)
    assert (found.worst_tensor, found.mean_cosine) == ("a", pytest.approx(0.9495))
