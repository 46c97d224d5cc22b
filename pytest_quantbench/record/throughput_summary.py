"""T1's samples → its part of a record: rates, times, memory and energy, with their intervals. Computes no verdict."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_quantbench.judge import rates as speed
from pytest_quantbench.judge import roofline
from pytest_quantbench.measures.throughput_samples import Memory, Run, ThroughputSamples, steady
from pytest_quantbench.record.throughput_schema import Throughput
from pytest_quantbench.stats import series
from pytest_quantbench.stats.gaps import GAP_PERCENTS, gap_ratios, spread
from pytest_quantbench.stats.percentiles import Percentile, percentiles
from pytest_quantbench.storage.sealed_json import json_sha256


def throughput(samples: ThroughputSamples, reference: ThroughputSamples | None) -> Throughput:
    """T1's figures; the ratio is against the reference's runs, interleaved ones if there are any."""
    rates = np.array([run.tokens_per_second for run in samples.runs])
    ratio = None if reference is None else speed.ratio(samples, reference)
    drift = speed.drift(samples, reference)
    prompts = [run.prompt for run in samples.runs]
    first_token = series.mean_of_units([run.first_token_seconds for run in samples.runs], prompts)
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
        warm_up_tps=samples.warm_ups[-1].tokens_per_second,
        warm_up_runs=len(samples.warm_ups),
        warm_up_steady=steady(samples.warm_ups),
        probe_drift=drift.own,
        interleaved=bool(samples.reference_runs),
        activations=samples.activations,
        dense_layers=samples.dense_layers,
        time_sec=samples.load_seconds + sum(run.seconds for run in samples.runs),
        ratio_suppressed="" if reference is None else speed.suppressed(samples, reference),
        reference_probe_drift=drift.reference,
        probe_change=drift.between,
        new_tokens=samples.runs[0].new_tokens,
        first_token=None if first_token is None else first_token.interval(),
        prompts=len(samples.prompts),
        prompts_sha256=json_sha256(list(samples.prompts)),
        **_order(samples),
        **_gaps(samples, reference),
        **_memory(samples.memory),
        **_energy(samples),
        **_roofline(samples, reference),
    )


def _order(samples: ThroughputSamples) -> dict[str, Any]:
    """Which of both came first, and how much of a processor their runs had."""
    beside = samples.reference_runs
    return {
        "order_seed": samples.seed if beside else None,
        "reference_first": sum(samples.reference_first) if beside else None,
        "cpu_share": speed.cpu_share(samples.runs),
        "reference_cpu_share": speed.cpu_share(beside),
        "processors_had": float(np.median(samples.processors_had)) if samples.processors_had else None,
    }


def _gaps(samples: ThroughputSamples, reference: ThroughputSamples | None) -> dict[str, Any]:
    """The times from one token to the next, over all runs; prompts are the units of their percentiles' intervals. Their
    ratios are suppressed where the speed ratio is.
    """
    gaps = [run.latencies_seconds for run in samples.runs]
    beside = bool(samples.reference_runs)
    before = samples.reference_runs or (() if reference is None else reference.runs)
    ratios: dict[str, Percentile] = {}
    if reference is not None and not speed.suppressed(samples, reference):
        ratios = gap_ratios(gaps, [run.latencies_seconds for run in before], paired=beside, seed=samples.seed)
    units = np.repeat([run.prompt for run in samples.runs], [len(each) for each in gaps])
    return {
        "gaps": sum(map(len, gaps)),
        "gap_sec": percentiles(np.concatenate(gaps), units.tolist(), GAP_PERCENTS),
        "gap": spread(gaps),
        "gap_ratio": ratios,
    }


def _memory(memory: Memory) -> dict[str, Any]:
    """In GB of 10⁹ bytes."""
    peak, now, before = memory.process_peak, memory.resident_bytes, memory.before_bytes
    return {
        "peak_gb": memory.peak_bytes / 1e9,
        "reserved_gb": None if memory.reserved_bytes is None else memory.reserved_bytes / 1e9,
        "process_peak_gb": None if peak is None else peak.peak_bytes / 1e9,
        "process_peak_since": None if peak is None else peak.since,
        "resident_gb": None if now is None else now / 1e9,
        "resident_added_gb": None if now is None or before is None else (now - before) / 1e9,
    }


def _energy(samples: ThroughputSamples) -> dict[str, Any]:
    return {
        "joules_per_token": _joules_per_token(samples.runs),
        "reference_joules_per_token": _joules_per_token(samples.reference_runs),
        "energy_of": samples.energy_of,
    }


def _joules_per_token(runs: Sequence[Run]) -> float | None:
    """Over all runs that tell; None where none does, or the counter did not move."""
    told = [(run.joules, run.new_tokens) for run in runs if run.joules is not None]
    joules, tokens = (sum(column) for column in zip(*told, strict=True)) if told else (0.0, 0)
    return joules / tokens if joules > 0 else None


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
