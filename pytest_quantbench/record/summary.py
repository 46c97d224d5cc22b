"""Samples → the parts of a record: figures with their intervals. Computes no verdict."""

import math
from collections.abc import Mapping

import numpy as np

from pytest_quantbench.compress.manifest import Manifest
from pytest_quantbench.measures.samples import AccuracySamples, TaskSamples, WeightSamples
from pytest_quantbench.record.accuracy_schema import Accuracy, TaskAccuracy
from pytest_quantbench.record.schema import Compression, Weights
from pytest_quantbench.stats.clusters import clusters_of
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.proportions import (
    detectable_drop_unpaired,
    flips,
    mcnemar_p,
    share_of_clusters,
    unpaired_z,
)


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
