"""A record → what a tracker of experiments keeps of a run: numbers, settings and words, each by a flat name."""

from collections.abc import Mapping

from pytest_quantbench.record.schema import Record
from pytest_quantbench.stats.estimates import Interval

ENDS = ("estimate", "low", "high")


def name(record: Record) -> str:
    """What the run is called: the cell."""
    return record.cell


def settings(record: Record) -> dict[str, str]:
    """What was measured, on which machine: text by name."""
    told: dict[str, object | None] = {
        "model": record.model_id,
        "recipe": record.recipe,
        "level": record.level,
        "source": record.source,
        "revision": record.revision,
        "seed": record.seed,
        "weights_sha256": record.weights_sha256,
        "session": record.session,
        "machine": record.machine and record.machine.chip,
        "backend": record.machine and record.machine.backend,
    }
    return {key: str(value) for key, value in {**told, **record.recipe_parameters}.items() if value is not None}


def figures(record: Record) -> dict[str, float]:
    """The figures that were measured, by part and name, with the ends of their intervals: `perplexity/delta/low`."""
    found: dict[str, float | None] = {}
    if (size := record.compression) is not None:
        found |= {"size/gb": size.compressed_gb, "size/bits_per_weight": size.bits_per_weight}
        found |= {"size/reduction_percent": 100 * (1 - size.ratio), "compression/seconds": size.time_sec}
    if (speed := record.throughput) is not None:
        found |= {"throughput/tokens_per_second": speed.mean_tps, "throughput/load_seconds": speed.load_sec}
        found |= {"throughput/first_token_seconds": speed.first_token_sec, "throughput/peak_gb": speed.peak_gb}
        found |= _ends("throughput/ratio", speed.ratio)
    if (text := record.perplexity) is not None:
        found |= {"perplexity/value": text.ppl, "perplexity/reference": text.bf16_ppl, "perplexity/tokens": text.tokens}
        found |= _ends("perplexity/delta", text.delta_interval)
        if text.divergence is not None:
            found |= _ends("perplexity/kl_nats", text.divergence.kl_interval)
    for task, each in record.accuracy.tasks.items() if record.accuracy is not None else ():
        found |= {f"accuracy/{task}/value": each.accuracy, f"accuracy/{task}/questions": each.questions}
        found |= _ends(f"accuracy/{task}/drop_points", each.drop_points)
    if (weights := record.weights) is not None:
        found |= {"weights/mean_cosine": weights.mean_cosine, "weights/worst_snr_db": weights.worst_snr_db}
    return {key: float(value) for key, value in found.items() if value is not None}


def words(record: Record) -> Mapping[str, str]:
    """What was said of every criterion: its outcome by metric, and what it is of where a metric has several."""
    return {
        f"verdict/{verdict.metric}" + (f"/{verdict.of}" if verdict.of else ""): verdict.outcome
        for verdict in sorted(record.verdicts, key=lambda verdict: verdict.given, reverse=True)
    }


def _ends(of: str, found: Interval | None) -> dict[str, float]:
    return {} if found is None else {f"{of}/{end}": getattr(found, end) for end in ENDS}
