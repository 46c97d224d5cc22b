"""The rows of a model's table: every figure of a record, with its unit, its interval and of how many it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.record.publication_schema import Cost
from pytest_quantbench.record.schema import Record, Weights
from pytest_quantbench.record.throughput_schema import Throughput
from pytest_quantbench.report.markdown import figures, quality_rows
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.markdown.figures import Row, marked, ranged, row
from pytest_quantbench.report.tables import MISSING, number, share_of_bandwidth, significant
from pytest_quantbench.stats.estimates import Interval

PERCENTILES = ("50", "90", "95", "99", "99.9")  # of the gaps between tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows under a title; those of tasks and texts depend on which were asked and read."""

    title: str
    rows: Callable[[Sequence[Record]], Sequence[Row]]


def _reduction(record: Record) -> str:
    part = record.compression
    return MISSING if part is None else marked(record, f"{100 * (1 - part.ratio):.1f}", "size_reduction_percent")


SIZE = (
    Row(label="method", figure=lambda record: _method(record)),
    row("bits per weight, whole model", "compression", lambda part: f"{part.bits_per_weight:.2f}"),
    row("bits per weight, decoder layers", "compression", lambda part: f"{part.inner_bits_per_weight:.2f}"),
    row("bits per weight, embeddings, head", "compression", lambda part: number(part.outer_bits_per_weight, 2)),
    row("bits per weight, encoded tensors", "candidate", lambda part: f"{part.stored_bits_per_weight:.2f}"),
    row("size, GB", "compression", lambda part: significant(part.compressed_gb)),
    row("compression ratio, ×", "compression", lambda part: f"{part.times_smaller:.2f}"),
    Row(label="smaller than BF16, %", figure=_reduction),
    row("parameters quantized, %", "compression", lambda part: f"{100 * part.quantized_fraction:.2f}"),
    row("key-value cache, method", "cache", lambda part: text(part.method)),
    row("… bits per number", "cache", lambda part: part.size and f"{part.size.bits_per_value:.2f}"),
    row("… smaller than BF16, %", "cache", lambda part: part.size and f"{part.size.reduction_percent:z.1f}"),
    row("… at tokens", "cache", lambda part: part.size and f"{part.size.tokens:,}"),
    row("time to compress, s", "compression", lambda part: significant(part.time_sec)),
)


def _method(record: Record) -> str:
    """What the recipe does to the decoder layers, or the candidate's format."""
    if record.candidate is not None:
        return text(record.candidate.format)
    made = recipe(record.recipe)
    return text(made.mix or made.inner.quantizer)


WEIGHTS = (
    row("SNR, dB: median", "weights", lambda part: number(part.median_snr_db, 1)),
    row("… lowest", "weights", lambda part: number(part.worst_snr_db, 1)),
    row("cosine: mean", "weights", lambda part: f"{part.mean_cosine:.5f}"),
    row("… least", "weights", lambda part: _least(part)),
    row("… matrices", "weights", lambda part: None if part.matrices is None else f"{part.matrices:,}"),
    row("cosine of sampled rows: median", "candidate", lambda part: f"{part.median_cosine:.5f}"),
    row("… least", "candidate", lambda part: f"{part.least_cosine:.5f}"),
)


def _least(part: Weights) -> str | None:
    return None if part.least_cosine is None else f"{part.least_cosine:.5f}"


def _decode(part: Throughput) -> str:
    return f"{part.mean_tps:.1f}" + ("" if part.std_tps is None else f"{figures.TIED}±{figures.TIED}{part.std_tps:.1f}")


def _ratio(record: Record) -> str:
    look, part = figures.speed_look(record), record.throughput
    if look is None or part is None:
        return MISSING
    told = "no ratio" if part.ratio_suppressed else ranged(look.interval, 2)
    return marked(record, told, "throughput_ratio")


def _gap(percentile: str) -> Callable[[Throughput], str]:
    return lambda part: ranged(part.gap_sec.get(percentile), 2, factor=1000)


def _gap_ratio(percentile: str) -> Callable[[Throughput], str | None]:
    return lambda part: ranged(part.gap_ratio[percentile], 2) if percentile in part.gap_ratio else None


def _mean_gap(part: Throughput) -> str | None:
    if part.gap is None:
        return None
    deviation = "" if part.gap.deviation is None else f"{figures.TIED}±{figures.TIED}{1000 * part.gap.deviation:.2f}"
    return f"{1000 * part.gap.mean:.2f}{deviation}, {1000 * part.gap.least:.2f} to {1000 * part.gap.most:.2f}"


def _warm_up(part: Throughput) -> str | None:
    if part.warm_up_runs is None:
        return None
    return f"{part.warm_up_runs}" if part.warm_up_steady else f"{part.warm_up_runs}, and not steady yet"


SPEED = (
    row("decode, tokens per second ± sd", "throughput", _decode),
    row("… 95 % of runs reach", "throughput", lambda part: f"{part.p95_tps:.1f}"),
    Row(label="… times BF16", figure=_ratio),
    row(
        "… of what the memory's bandwidth allows",
        "throughput",
        lambda part: share_of_bandwidth(part.bound_share) or None,
    ),
    row("… runs", "throughput", lambda part: f"{part.total_runs:,}"),
    row("… warm-up runs before", "throughput", _warm_up),
    row("… processors that a run had", "throughput", lambda part: _two(part.cpu_share)),
    row("energy of a token, J, idle included", "throughput", lambda part: _joules(part)),
    row(f"time per token, ms: p{PERCENTILES[0]}", "throughput", _gap(PERCENTILES[0])),
    *(row(f"… p{each}", "throughput", _gap(each)) for each in PERCENTILES[1:]),
    row("… mean ± sd, and from the shortest to the longest", "throughput", _mean_gap),
    row("… gaps between tokens", "throughput", lambda part: None if part.gaps is None else f"{part.gaps:,}"),
    *(row(f"time per token, times BF16: p{each}", "throughput", _gap_ratio(each)) for each in PERCENTILES),
    row("… mean", "throughput", _gap_ratio("mean")),
    row("time to first token, ms", "throughput", lambda part: _first_token(part)),
    row("prefill, tokens per second", "throughput", lambda part: f"{part.prefill_tps:.1f}"),
    row("load, s", "throughput", lambda part: significant(part.load_sec)),
    row("peak memory of the engine, GB", "throughput", lambda part: significant(part.peak_gb)),
    row("… with what it keeps for reuse", "throughput", lambda part: _memory(part.reserved_gb)),
    row("peak memory of the process, GB", "throughput", lambda part: _memory(part.process_peak_gb)),
    row("memory of the process once loaded, GB", "throughput", lambda part: _memory(part.resident_gb)),
    row("… more than before", "throughput", lambda part: _memory(part.resident_added_gb)),
    row("cost of a million tokens", "cost", lambda part: _money(part, part.per_million_tokens)),
    row("… with compressing spread over a volume", "cost", lambda part: _spread(part)),
)


def _money(part: Cost, found: Interval | None) -> str:
    return part.suppressed or f"{ranged(found, 2)} {text(part.currency)}".rstrip()


def _spread(part: Cost) -> str | None:
    if part.volume_tokens is None or part.amortised_per_million_tokens is None:
        return None
    return f"{_money(part, part.amortised_per_million_tokens)} ({part.volume_tokens:,} tokens)"


def _first_token(part: Throughput) -> str:
    return (
        f"{1000 * part.first_token_sec:.1f}" if part.first_token is None else ranged(part.first_token, 1, factor=1000)
    )


def _memory(gigabytes: float | None) -> str | None:
    return None if gigabytes is None else significant(gigabytes)


def _two(figure: float | None) -> str | None:
    return None if figure is None else f"{figure:.2f}"


def _joules(part: Throughput) -> str | None:
    return None if part.joules_per_token is None else f"{significant(part.joules_per_token)} ({part.energy_of})"


GROUPS = (
    Group(title="Size", rows=lambda records: SIZE),
    Group(title="Perplexity", rows=quality_rows.texts),
    Group(title="Accuracy", rows=quality_rows.tasks),
    Group(title="Weights against the original's", rows=lambda records: WEIGHTS),
    Group(title="Speed and memory", rows=lambda records: SPEED),
)
