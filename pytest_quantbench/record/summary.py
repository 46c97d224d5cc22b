"""Samples → the parts of a record: figures with their intervals. Computes no verdict."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_quantbench.compress.manifest import Manifest
from pytest_quantbench.judge import rates as speed
from pytest_quantbench.judge import roofline
from pytest_quantbench.measures.samples import AccuracySamples, TaskSamples, WeightSamples
from pytest_quantbench.measures.throughput_samples import ThroughputSamples
from pytest_quantbench.record.accuracy_schema import Accuracy, TaskAccuracy
from pytest_quantbench.record.schema import Compression, Weights
from pytest_quantbench.record.throughput_schema import Throughput
from pytest_quantbench.stats import series
from pytest_quantbench.stats.clusters import clusters_of
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.percentiles import Percentile, percentiles
from pytest_quantbench.stats.proportions import (
    detectable_drop_unpaired,
    flips,
    mcnemar_p,
    share_of_clusters,
    unpaired_z,
)

GAP_PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)


def compression(manifest: Manifest, calibration_ppl: float | None = None) -> Compression:
    """Sizes and coverage, counted from what the manifest says was stored."""
    size = dict.fromkeys(("inner", "outer", "kept"), 0)
    count = dict(size)
    quantized = 0
    for tensor in manifest.tensors:
        values = math.prod(tensor.shape)
        size[tensor.part] += tensor.stored_bytes
        count[tensor.part] += values
        quantized += values if tensor.quantizer not in (None, "identity") else 0
    total = sum(count.values())
    return Compression(
        original_gb=manifest.bf16_bytes / 1e9,
        compressed_gb=manifest.stored_bytes / 1e9,
        ratio=manifest.stored_bytes / manifest.bf16_bytes,
        times_smaller=manifest.bf16_bytes / manifest.stored_bytes,
        time_sec=manifest.seconds,
        bits_per_weight=8 * sum(size.values()) / total,
        inner_bits_per_weight=8 * size["inner"] / count["inner"],
        outer_bits_per_weight=8 * size["outer"] / count["outer"] if count["outer"] else None,
        quantized_fraction=quantized / total,
        kept={tensor.name: tensor.note for tensor in manifest.tensors if tensor.part == "kept"},
        notes={tensor.name: tensor.note for tensor in manifest.tensors if tensor.part != "kept" and tensor.note},
        source_dtype=manifest.source_dtype,
        artifact=manifest.key,
        opens_in_mlx_lm=manifest.opens_in_mlx_lm,
        calibration=dict(manifest.calibration) or None,
        calibration_ppl=calibration_ppl,
    )


def throughput(samples: ThroughputSamples, reference: ThroughputSamples | None) -> Throughput:
    """T1's figures; the ratio is against the reference's runs, interleaved ones if there are any."""
    rates = np.array([run.tokens_per_second for run in samples.runs])
    ratio = None if reference is None else speed.ratio(samples, reference)
    drift = speed.drift(samples, reference)
    prompts = [run.prompt for run in samples.runs]
    first_token = series.mean_of_units([run.first_token_seconds for run in samples.runs], prompts)
    peak = samples.process_peak
    return Throughput(
        mean_tps=float(rates.mean()),
        std_tps=float(rates.std(ddof=1)) if len(rates) > 1 else None,
        p95_tps=float(np.percentile(rates, 5)),
        runs=len(rates) // len({run.prompt for run in samples.runs}),
        total_runs=len(rates),
        ratio=None if ratio is None else ratio.interval(),
        prefill_tps=float(np.mean([run.prefill_tokens_per_second for run in samples.runs])),
        first_token_sec=float(np.mean([run.first_token_seconds for run in samples.runs])),
        load_sec=samples.load_seconds,
        peak_gb=samples.peak_bytes / 1e9,
        warm_up_tps=samples.warm_up.tokens_per_second,
        probe_drift=drift.own,
        interleaved=bool(samples.reference_runs),
        activations=samples.activations,
        dense_layers=samples.dense_layers,
        time_sec=samples.load_seconds + sum(run.seconds for run in samples.runs),
        ratio_suppressed="" if reference is None else speed.suppressed(samples, reference),
        reference_probe_drift=drift.reference,
        probe_change=drift.between,
        new_tokens=samples.runs[0].new_tokens,
        gaps=sum(len(run.latencies_seconds) for run in samples.runs),
        gap_sec=_gaps(samples),
        first_token=None if first_token is None else first_token.interval(),
        process_peak_gb=None if peak is None else peak.peak_bytes / 1e9,
        process_peak_since=None if peak is None else peak.since,
        **_roofline(samples, reference),
    )


def _roofline(samples: ThroughputSamples, reference: ThroughputSamples | None) -> dict[str, Any]:
    """What a token reads, how fast that can go at most, and how much of it was reached."""
    mine = roofline.own(samples)
    other = None if reference is None else roofline.of_reference(samples, reference)
    return {
        "bytes_per_token": samples.bytes_per_token,
        "read_gb_per_sec": float(np.mean(samples.read_rates)) / 1e9 if samples.read_rates else None,
        "bound_tps": mine and mine.bound,
        "bound_share": mine and mine.share,
        "reference_bound_share": other and other.share,
        "kernels": dict(samples.kernels),
        "step": samples.step,
    }


def _gaps(samples: ThroughputSamples) -> dict[str, Percentile]:
    """Percentiles of the times from one token to the next, over all runs; prompts are the units of their intervals."""
    gaps = [run.latencies_seconds for run in samples.runs]
    units = np.repeat([run.prompt for run in samples.runs], [len(each) for each in gaps])
    return percentiles(np.concatenate(gaps), units.tolist(), GAP_PERCENTS)


def accuracy(samples: AccuracySamples, reference: AccuracySamples | None) -> Accuracy:
    """T3's figures; `delta` is the change of the combined accuracy, negative where accuracy was lost."""
    other: Mapping[str, TaskSamples] = {} if reference is None else reference.tasks
    tasks = {name: task_accuracy(task, other.get(name)) for name, task in samples.tasks.items()}
    combined = _mean([task.accuracy for task in tasks.values()])
    bf16 = None if reference is None else _mean([float(np.mean(task.correct)) for task in other.values()])
    return Accuracy(
        arc_easy=tasks["arc_easy"].accuracy if "arc_easy" in tasks else None,
        hellaswag=tasks["hellaswag"].accuracy if "hellaswag" in tasks else None,
        combined=combined,
        bf16_combined=bf16,
        delta=None if bf16 is None else combined - bf16,
        delta_points=None if bf16 is None else 100 * (combined - bf16),
        tasks=tasks,
        cut_contexts=samples.cut_contexts,
        time_sec=samples.seconds,
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def task_accuracy(samples: TaskSamples, reference: TaskSamples | None) -> TaskAccuracy:
    """One task's figures, beside the reference's on the same questions where there are any."""
    accuracy, questions = float(np.mean(samples.correct)), len(samples.ids)
    clusters = clusters_of(samples.clusters, questions)
    paired: dict[str, int | float | Interval | None] = {}
    if reference is not None:
        observed = flips(reference.correct, samples.correct, samples.clusters)
        before = float(np.mean(reference.correct))
        change = reference.correct.astype(np.float64) - samples.correct
        paired = {
            "bf16_accuracy": before,
            "right_to_wrong": observed.lost,
            "wrong_to_right": observed.gained,
            "drop_points": observed.interval(),
            "mcnemar_p": mcnemar_p(observed),
            "unpaired_p": unpaired_z(before, accuracy, questions)[1],
            "unpaired_detectable_points": detectable_drop_unpaired(before, questions),
            "detectable_points": observed.detectable(0.0),
            "questions_for_one_point": observed.questions_for(1.0),
            "flip_correlation": clusters.correlation(change),
            "design_effect": observed.design_effect,
        }
    return TaskAccuracy(
        accuracy=accuracy,
        questions=questions,
        chance=samples.chance,
        accuracy_raw=float(np.mean(samples.correct_raw)),
        version=samples.version,
        sha256=samples.sha256,
        clusters=len(clusters.sizes),
        cluster_key=samples.cluster_key,
        accuracy_interval=share_of_clusters(samples.correct, samples.clusters),
        **paired,  # type: ignore[arg-type]
    )


def weights(samples: WeightSamples) -> Weights:
    """Over all encoded matrices; SNR is null where nothing was lost."""
    lossy = [tensor for tensor in samples.tensors if math.isfinite(tensor.snr_db)]
    worst = min(lossy, key=lambda tensor: tensor.snr_db, default=None)
    turned = min(samples.tensors, key=lambda tensor: tensor.cosine)
    return Weights(
        median_snr_db=float(np.median([tensor.snr_db for tensor in lossy])) if lossy else None,
        worst_snr_db=None if worst is None else worst.snr_db,
        worst_tensor=None if worst is None else worst.name,
        mean_cosine=_mean([tensor.cosine for tensor in samples.tensors]),
        largest_error=max(tensor.largest_error for tensor in samples.tensors),
        least_cosine=turned.cosine,
        least_cosine_tensor=turned.name,
        matrices=len(samples.tensors),
    )
