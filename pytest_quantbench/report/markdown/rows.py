"""The rows of a model's table: every figure of a record, with its unit, its interval and of how many it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.record.perplexity_schema import Perplexity
from pytest_quantbench.record.schema import Record, Throughput, Weights
from pytest_quantbench.report.markdown import figures
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.markdown.figures import Row, marked, of_part, ranged, significant
from pytest_quantbench.report.tables import MISSING, number

PERCENTILES = ("50", "90", "95", "99", "99.9")  # of the gaps between tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows under a title; those of tasks and texts depend on which were asked and read."""

    title: str
    rows: Callable[[Sequence[Record]], Sequence[Row]]


def _row(label: str, part: str, shown: Callable[..., str | None]) -> Row:
    return Row(label=label, figure=of_part(part, shown))


def _reduction(record: Record) -> str:
    part = record.compression
    return MISSING if part is None else marked(record, f"{100 * (1 - part.ratio):.1f}", "size_reduction_percent")


SIZE = (
    Row(label="method", figure=lambda record: _method(record)),
    _row("bits per weight, whole model", "compression", lambda part: f"{part.bits_per_weight:.2f}"),
    _row("bits per weight, decoder layers", "compression", lambda part: f"{part.inner_bits_per_weight:.2f}"),
    _row("bits per weight, embeddings, head", "compression", lambda part: number(part.outer_bits_per_weight, 2)),
    _row("bits per weight, encoded tensors", "candidate", lambda part: f"{part.stored_bits_per_weight:.2f}"),
    _row("size, GB", "compression", lambda part: significant(part.compressed_gb)),
    _row("compression ratio, ×", "compression", lambda part: f"{part.times_smaller:.2f}"),
    Row(label="smaller than BF16, %", figure=_reduction),
    _row("parameters quantized, %", "compression", lambda part: f"{100 * part.quantized_fraction:.2f}"),
    _row("time to compress, s", "compression", lambda part: significant(part.time_sec)),
)


def _method(record: Record) -> str:
    """What the recipe does to the decoder layers, or the candidate's format."""
    if record.candidate is not None:
        return text(record.candidate.format)
    made = recipe(record.recipe)
    return text(made.mix or made.inner.quantizer)


def _perplexity_reference(record: Record) -> str:
    look = figures.perplexity_look(record)
    return MISSING if look is None else figures.perplexity(look.reference)


def _perplexity_change(record: Record) -> str:
    look, part = figures.perplexity_look(record), record.perplexity
    if look is None or part is None or look.interval is None:
        return MISSING
    return marked(record, figures.perplexity_change(look.interval) + look.note, "perplexity_delta", part.corpus)


def _perplexity_tokens(record: Record) -> str:
    look = figures.perplexity_look(record)
    return MISSING if look is None else f"{look.items:,}"


def _own_perplexity(record: Record) -> str:
    """With its own interval where that is of the same tokens."""
    look, part = figures.perplexity_look(record), record.perplexity
    if look is None or part is None:
        return MISSING
    found = part.ppl_interval if look.items == part.tokens else None
    return figures.perplexity(look.value) if found is None else ranged(found, 3)


def _head(part: Perplexity) -> str | None:
    head = part.head
    if head is None:
        return None
    return figures.perplexity(head.ppl) + ("" if head.delta is None else f" (Δ{figures.TIED}{head.delta:+.3f})")


def _kl(part: Perplexity) -> str | None:
    found = part.divergence
    if found is None:
        return None
    return ranged(found.kl_interval, 4) if found.kl_interval else f"{found.kl_nats:.4f}"


def _kl_tail(part: Perplexity) -> str | None:
    return None if part.divergence is None else significant(part.divergence.kl_percentiles["99"])


def _same_top(part: Perplexity) -> str | None:
    return None if part.divergence is None else ranged(part.divergence.same_top, 1, factor=100)


PERPLEXITY = (
    Row(label="perplexity", figure=_own_perplexity),
    Row(label="… of BF16 on these tokens", figure=_perplexity_reference),
    Row(label="… Δ", figure=_perplexity_change),
    Row(label="… tokens", figure=_perplexity_tokens),
    _row("KL divergence, nats per token", "perplexity", _kl),
    _row("… 99 % of tokens below", "perplexity", _kl_tail),
    _row("same likeliest token, %", "perplexity", _same_top),
    _row("… tokens", "perplexity", lambda part: f"{part.tokens:,}" if part.divergence else None),
    _row("perplexity of the first tokens", "perplexity", _head),
    _row("… tokens", "perplexity", lambda part: f"{part.head.tokens:,}" if part.head else None),
)


def _texts(records: Sequence[Record]) -> Sequence[Row]:
    """Those of the judged text, and of the others, which are not judged."""
    names = dict.fromkeys(name for record in records for name in record.perplexities)
    return (*PERPLEXITY, *(row for name in names for row in _other_text(name)))


def _other_text(name: str) -> tuple[Row, ...]:
    def of(shown: Callable[[Perplexity], str]) -> Callable[[Record], str]:
        return lambda record: shown(record.perplexities[name]) if name in record.perplexities else MISSING

    return (
        Row(label=f"perplexity on {text(name)}", figure=of(lambda part: figures.perplexity(part.ppl))),
        Row(label="… Δ", figure=of(lambda part: figures.perplexity_change(part.delta_interval))),
        Row(label="… tokens", figure=of(lambda part: f"{part.tokens:,}")),
    )


def _tasks(records: Sequence[Record]) -> Sequence[Row]:
    names = dict.fromkeys(name for record in records if record.accuracy for name in record.accuracy.tasks)
    return [row for name in names for row in _task(name)]


def _task(name: str) -> tuple[Row, ...]:
    def change(record: Record) -> str:
        look = figures.accuracy_look(record, name)
        if look is None or look.interval is None:
            return MISSING
        return marked(record, ranged(look.interval, 1) + look.note, "accuracy_drop_points", name)

    def accuracy(record: Record) -> str:
        look = figures.accuracy_look(record, name)
        if look is None or record.accuracy is None:
            return MISSING
        task = record.accuracy.tasks[name]
        found = task.accuracy_interval if look.items == task.questions else None
        return figures.percent(look.value) if found is None else ranged(found, 1, factor=100)

    def flips(record: Record) -> str:
        task = record.accuracy.tasks.get(name) if record.accuracy else None
        return (
            MISSING if task is None or task.right_to_wrong is None else f"{task.right_to_wrong}, {task.wrong_to_right}"
        )

    def questions(record: Record) -> str:
        look = figures.accuracy_look(record, name)
        return MISSING if look is None else f"{look.items:,}"

    return (
        Row(label=f"{text(name)}, % right", figure=accuracy),
        Row(label="… drop, points", figure=change),
        Row(label="… answers lost, gained", figure=flips),
        Row(label="… questions", figure=questions),
    )


WEIGHTS = (
    _row("SNR, dB: median", "weights", lambda part: number(part.median_snr_db, 1)),
    _row("… lowest", "weights", lambda part: number(part.worst_snr_db, 1)),
    _row("cosine: mean", "weights", lambda part: f"{part.mean_cosine:.5f}"),
    _row("… least", "weights", lambda part: _least(part)),
    _row("… matrices", "weights", lambda part: None if part.matrices is None else f"{part.matrices:,}"),
    _row("cosine of sampled rows: median", "candidate", lambda part: f"{part.median_cosine:.5f}"),
    _row("… least", "candidate", lambda part: f"{part.least_cosine:.5f}"),
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


SPEED = (
    _row("decode, tokens per second ± sd", "throughput", _decode),
    _row("… 95 % of runs reach", "throughput", lambda part: f"{part.p95_tps:.1f}"),
    Row(label="… times BF16", figure=_ratio),
    _row("… runs", "throughput", lambda part: f"{part.total_runs:,}"),
    _row(f"time per token, ms: p{PERCENTILES[0]}", "throughput", _gap(PERCENTILES[0])),
    *(_row(f"… p{each}", "throughput", _gap(each)) for each in PERCENTILES[1:]),
    _row("… gaps between tokens", "throughput", lambda part: None if part.gaps is None else f"{part.gaps:,}"),
    _row("time to first token, ms", "throughput", lambda part: _first_token(part)),
    _row("prefill, tokens per second", "throughput", lambda part: f"{part.prefill_tps:.1f}"),
    _row("load, s", "throughput", lambda part: significant(part.load_sec)),
    _row("peak memory of the engine, GB", "throughput", lambda part: significant(part.peak_gb)),
    _row("peak memory of the process, GB", "throughput", lambda part: _process(part)),
    _row("cost per million tokens", "cost", lambda part: f"{ranged(part.per_million_tokens, 2)} {text(part.currency)}"),
)


def _first_token(part: Throughput) -> str:
    return (
        f"{1000 * part.first_token_sec:.1f}" if part.first_token is None else ranged(part.first_token, 1, factor=1000)
    )


def _process(part: Throughput) -> str | None:
    return None if part.process_peak_gb is None else significant(part.process_peak_gb)


GROUPS = (
    Group(title="Size", rows=lambda records: SIZE),
    Group(title="Perplexity", rows=_texts),
    Group(title="Accuracy", rows=_tasks),
    Group(title="Weights against the original's", rows=lambda records: WEIGHTS),
    Group(title="Speed and memory", rows=lambda records: SPEED),
)
