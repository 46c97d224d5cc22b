"""Samples of a sweep → what its record says of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_quantbench.judge import rates
from pytest_quantbench.judge import sweep as judged
from pytest_quantbench.measures.sweep.samples import PointRun, PointSamples, SweepSamples
from pytest_quantbench.record.sweep_schema import Sweep, SweepPoint
from pytest_quantbench.stats import gaps
from pytest_quantbench.stats.percentiles import Percentile, percentiles

FEWEST_BEYOND = 1  # gaps that are longer than a percentile which is told
FIRSTS = (50.0, 99.0)  # percentiles of the times to the first token of requests


def sweep(samples: SweepSamples, reference: SweepSamples | None) -> Sweep:
    """Every point; ratios where there is a reference."""
    return Sweep(
        points=tuple(_point(each, samples, reference) for each in samples.points),
        interleaved=any(each.reference_runs for each in samples.points),
        seed=samples.seed,
        temperature=samples.temperature,
        activations=samples.activations,
        bytes_per_token=samples.bytes_per_token,
        cache_bytes_per_token=samples.cache_bytes_per_token,
        read_gb_per_sec=_read_gb_per_sec(samples.points),
        time_sec=sum(each.seconds for each in samples.points),
    )


def _read_gb_per_sec(points: Sequence[PointSamples]) -> float | None:
    reads = [read for point in points for read in point.read_rates]
    return float(np.mean(reads)) / 1e9 if reads else None


def _point(point: PointSamples, samples: SweepSamples, reference: SweepSamples | None) -> SweepPoint:
    where = point.point
    told: dict[str, Any] = {}
    if point.runs:
        rate = point.rates(point.runs)
        other = None if reference is None else reference.at(where)
        told = {
            "step": point.step,
            "rate": gaps.spread([rate]),
            "probe_drift": rates.largest_change(point.probes_per_second),
            "read_gb_per_sec": _read_gb_per_sec([point]),
            **_machine(point),
            "reference_first": point.reference_first,
            **_first_tokens(point),
            **_gaps(point.runs),
            **_roofline(point, samples, float(rate.mean())),
            **({} if reference is None else _compared(point, other)),
        }
    return SweepPoint(
        kind=where.kind,
        rows=where.rows,
        depth=where.depth,
        new_tokens=where.new_tokens,
        skipped=point.skipped,
        **told,
    )


def _compared(point: PointSamples, other: PointSamples | None) -> dict[str, Any]:
    """Ratios to the reference, unless the machine's own speed changed."""
    runs = judged.reference_runs(point, other)
    if not runs:
        return {}
    if why := judged.suppressed(point, other):
        return {"ratio_suppressed": why}
    rate = judged.ratio(point, runs, point.rates(point.runs), point.rates(runs))
    first = judged.ratio(point, runs, *(np.array([run.first_seconds for run in each]) for each in (point.runs, runs)))
    return {
        "ratio": None if rate is None else rate.interval(),
        "first_token_ratio": None if first is None else first.interval(),
        "gap_ratios": judged.gap_ratios(point, runs),
    }


def _machine(point: PointSamples) -> dict[str, Any]:
    """What the runs had of the processors, and what energy one took. Where prompts are of unlike lengths, a run may
    compile what its length takes: then nothing is said of energy.
    """
    sides, told = {"": point.runs, "reference_": point.reference_runs}, point.point.kind != "end to end"
    joules = {side: [run.joules for run in runs if run.joules is not None] for side, runs in sides.items()}
    return {
        **{f"{side}cpu_share": rates.cpu_share(runs) for side, runs in sides.items()},
        **{f"{side}joules_per_run": float(np.mean(each)) for side, each in joules.items() if told and sum(each) > 0},
    }


def _first_tokens(point: PointSamples) -> dict[str, Any]:
    firsts = [run.firsts_seconds if len(run.firsts_seconds) else np.array([run.first_seconds]) for run in point.runs]
    found: dict[str, Any] = {"first_token_sec": gaps.spread(firsts)}
    if point.point.kind == "requests":
        units = [place for place, each in enumerate(firsts) for _ in each]
        found["first_token_percentiles"] = percentiles(np.concatenate(firsts), units, FIRSTS)
    return found


def _gaps(runs: Sequence[PointRun]) -> dict[str, Any]:
    """Of all gaps of all runs, with the percentiles that there are enough gaps for."""
    each = [run.gaps_seconds for run in runs]
    values = np.concatenate(each)
    if not len(values):
        return {}
    enough, left_out = list[float](), dict[str, str]()
    for percent in gaps.GAP_PERCENTS:
        needed = round(FEWEST_BEYOND / (1 - percent / 100))
        if len(values) >= needed:
            enough.append(percent)
        else:
            left_out[f"{percent:g}"] = f"{len(values):,} gaps of the {needed:,} that it takes"
    units = [place for place, run in enumerate(each) for _ in run]
    found: dict[str, Percentile] = percentiles(values, units, enough)
    return {"gap_sec": gaps.spread(each), "gap_percentiles": found, "left_out": left_out}


def _roofline(point: PointSamples, samples: SweepSamples, rate: float) -> dict[str, Any]:
    """Of a decode point: a step reads the weights once, and all keys and values that its texts have so far, here in the
    middle of the run.
    """
    where = point.point
    if where.kind != "decode" or (gb_per_second := _read_gb_per_sec([point])) is None:
        return {}
    held = max(where.depth, 1) + where.new_tokens / 2
    read = samples.bytes_per_token + round(where.rows * held * samples.cache_bytes_per_token)
    bound = where.rows * 1e9 * gb_per_second / read
    return {"bytes_per_step": read, "bound_tps": bound, "bound_share": rate / bound}
