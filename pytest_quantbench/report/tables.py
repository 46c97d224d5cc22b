"""A record's figures as text, and the tables that they stand in. Computes nothing. Missing is "–"."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import worst
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.proportions import GUESSING_P

MARKS: dict[Outcome, str] = {"pass": "✓", "fail": "✗", "undecided": "?", "anomalous": "!", "informational": "·"}
MISSING = "–"


def mark(record: Record, metric: str, of: str | None = None) -> str:
    """The sign of a record's worst verdict on a metric, on one text or task or on all; empty if there is none."""
    verdict = worst(record, metric, of)
    return "" if verdict is None else MARKS[verdict.outcome]


def first_of(record: Record, metric: str) -> str | None:
    """The text or task that a table has a metric's figures of; None for a metric that has none."""
    if metric == "perplexity_delta" and record.perplexity is not None:
        return record.perplexity.corpus
    return next(iter(record.accuracy.tasks)) if metric == "accuracy_drop_points" and record.accuracy else None


def interval(value: Interval | None, digits: int, sign: str = "") -> str:
    """`0.31 [0.12, 0.50]`, or the missing sign."""
    if value is None:
        return MISSING
    return f"{value.estimate:{sign}.{digits}f} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"


def number(value: float | None, digits: int) -> str:
    """A number, or the missing sign."""
    return MISSING if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is shown of a judged figure: all of one look, so that the figures are of the samples of the interval."""

    value: float | None
    reference: float | None
    items: int  # of the figures
    interval: Interval | None
    note: str = ""  # where the interval is of other samples


def decided(record: Record, metric: str, plain: Shown) -> Shown:
    """The look that decided the worst verdict on the first text or task; the plain figures, of all samples, where
    nothing was judged.
    """
    verdict = worst(record, metric, first_of(record, metric))
    ends = () if verdict is None else (verdict.estimate, verdict.low, verdict.high, verdict.confidence)
    if verdict is None or verdict.limit is None or None in ends:
        return plain
    estimate, low, high, confidence = (float(end) for end in ends if end is not None)
    found = Interval(estimate=estimate, low=low, high=high, confidence=confidence)
    items = verdict.items or plain.items
    if verdict.value is not None and verdict.reference_value is not None:
        return Shown(value=verdict.value, reference=verdict.reference_value, items=items, interval=found)
    note = "" if items == plain.items else f" (of {items:,})"  # of an older record, which has no figures of that look
    return replace(plain, interval=found, note=note)


def _reduction(record: Record) -> str:
    size = record.compression
    return f"{100 * (1 - size.ratio):.1f} % ({size.bits_per_weight:.2f} bpw)" if size else MISSING


def _gigabytes(record: Record) -> str:
    return f"{record.compression.compressed_gb:.3g}" if record.compression else MISSING


def _speed(record: Record) -> str:
    part = record.throughput
    if part is None:
        return MISSING
    if part.ratio_suppressed:
        return f"{part.mean_tps:.1f}, no ratio: {part.ratio_suppressed}"
    plain = Shown(value=part.mean_tps, reference=None, items=part.total_runs, interval=part.ratio)
    look = decided(record, "throughput_ratio", plain)
    return f"{number(look.value, 1)}" + (f", {interval(look.interval, 2)} ×{look.note}" if look.interval else "")


def _perplexity(record: Record) -> str:
    part = record.perplexity
    if part is None:
        return MISSING
    ppl = f"{number(part.ppl, 3)} ({part.tokens:,} tokens)"
    if part.bf16_ppl is None:
        return ppl
    plain = Shown(value=part.ppl, reference=part.bf16_ppl, items=part.tokens, interval=part.delta_interval)
    look = decided(record, "perplexity_delta", plain)
    both = f"{number(look.value, 3)} against {number(look.reference, 3)} ({look.items:,} tokens)"
    return f"{both}, Δ {interval(look.interval, 3, '+')}{look.note}"


def _head(record: Record) -> str:
    """Of the text's first tokens, as published tables have it."""
    part = record.perplexity and record.perplexity.head
    if not part:
        return MISSING
    both = number(part.ppl, 3) if part.bf16_ppl is None else f"{number(part.ppl, 3)} against {number(part.bf16_ppl, 3)}"
    return f"{both} ({part.tokens:,} tokens)" + ("" if part.delta is None else f", Δ {part.delta:+.3f}")


def _other_texts(record: Record) -> str:
    """The texts beside the first, with the sign of a verdict where they have a limit of their own."""
    shown = [
        f"{name} {number(part.ppl, 3)} ({part.tokens:,} tokens)"
        + ("" if part.bf16_ppl is None else f", Δ {interval(part.delta_interval, 3, '+')}")
        + _sign(record, "perplexity_delta", name)
        for name, part in record.perplexities.items()
    ]
    return "; ".join(shown) or MISSING


def _divergence(record: Record) -> str:
    part = record.perplexity and record.perplexity.divergence
    if not part:
        return MISSING
    tail, top = part.kl_percentiles["99"], part.same_top
    unsure = f" (± {part.sampled_nats:.1g} by sampling)" if part.sampled_nats else ""
    if part.missed_nats is not None:
        unsure = f", at most {part.missed_nats:.2g} more"
    return f"{interval(part.kl_interval, 4)}{unsure}, 99 % {tail:.3g}, same top token {top.estimate:.1%}"


def _accuracy(record: Record) -> str:
    if record.accuracy is None:
        return MISSING
    name, task = next(iter(record.accuracy.tasks.items()))
    plain = Shown(value=task.accuracy, reference=task.bf16_accuracy, items=task.questions, interval=task.drop_points)
    look = decided(record, "accuracy_drop_points", plain)
    told = f"{name} {look.value:.1%} ({look.items:,})"
    return told + (f", drop {interval(look.interval, 1)}{look.note}" if look.interval else "")


def _sign(record: Record, metric: str, of: str) -> str:
    return f" {mark(record, metric, of)}" if any((v.metric, v.of) == (metric, of) for v in record.verdicts) else ""


def _other_tasks(record: Record) -> str:
    """The tasks beside the first, with the sign of a verdict where they have a limit of their own."""
    _, *others = record.accuracy.tasks.items() if record.accuracy else ((),)
    shown = [
        f"{name} {task.accuracy:.1%} ({task.questions:,})"
        + (f", drop {interval(task.drop_points, 1)}" if task.drop_points else "")
        + _sign(record, "accuracy_drop_points", name)
        for name, task in others
    ]
    return "; ".join(shown) or MISSING


def coherence(record: Record) -> str:
    part = record.coherence
    if part is None:
        return MISSING
    shown = ["**collapsed**"] if part.collapsed else []
    if part.looping is not None:
        shown.append(f"{part.looping} of {part.prompts} outputs loop")
    if part.first_token_agreement is not None and part.greedy_prefix_tokens is not None:
        shown.append(f"first token {part.first_token_agreement:.0%}, {part.greedy_prefix_tokens:.0f} tokens alike")
    if part.guessing_p is not None and part.guessing_p > GUESSING_P:
        shown.append(f"no better than guessing (p = {part.guessing_p:.2g})")
    return ", ".join(shown) or MISSING


def calibration(record: Record) -> str:
    """The text that a recipe was calibrated on: name, hash, how much of it; empty without one."""
    part = record.compression
    if part is None or part.calibration is None:
        return ""
    told = part.calibration
    size = f"{told['sequences']} sequences" + (f" of {told['sequence_tokens']}" if "sequence_tokens" in told else "")
    ppl = "" if part.calibration_ppl is None else f", where the perplexity of BF16 is {part.calibration_ppl:.1f}"
    return f"{told['text']} (sha256 {str(told['sha256'])[:12]}, {size}){ppl}"


def errors_by_source(record: Record) -> str:
    """What the file lost and what its runtime adds, apart, in nats per token."""
    part = record.runtime
    if part is None:
        return MISSING
    lost, added = part.file_error, part.engine_error
    return (
        f"file error {_nats(lost.mean_nats, lost.interval)} (what the file lost); "
        f"engine error {_nats(added.mean_nats, added.interval)} (what {part.runtime}'s arithmetic adds), "
        f"{added.rms_nats:.2g} rms and at most {added.largest_nats:.2g} at a token, "
        f"same top token {added.same_top.estimate:.1%}; KL divergence {part.walk_kl_nats:.2g} of the file, "
        f"{part.kl_nats:.2g} as it runs ({part.tokens:,} tokens)"
    )


def _nats(mean: float, found: Interval | None) -> str:
    return f"{mean:+.4f}" if found is None else interval(found, 4, "+")


def runtime_speed(record: Record) -> str:
    """How fast the runtime is, and the memory that it takes."""
    part = record.runtime
    if part is None:
        return MISSING
    speed, gap = part.speed, part.speed.gap_sec
    return (
        f"{part.runtime}: loads in {speed.load_sec:.2f} s, prefill {speed.prefill_tps:.0f} and decode "
        f"{speed.decode_tps:.1f} tokens/s, gaps {1000 * gap['50']:.1f} ms (95 %: {1000 * gap['95']:.1f}), "
        f"peak {part.peak_gb:.2f} GB"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of the report: a figure for every record, judged by `metric` if there is one."""

    title: str
    figure: Callable[[Record], str]
    metric: str | None


TABLES = (
    Table(title="Size: reduction against BF16", figure=_reduction, metric="size_reduction_percent"),
    Table(title="Size in GB", figure=_gigabytes, metric=None),
    Table(title="Tokens per second, with speed-up over BF16", figure=_speed, metric="throughput_ratio"),
    Table(title="Perplexity, with delta against BF16", figure=_perplexity, metric="perplexity_delta"),
    Table(title="Perplexity of the text's first tokens alone, not judged", figure=_head, metric=None),
    Table(title="Other texts: perplexity and delta", figure=_other_texts, metric=None),
    Table(title="KL divergence from BF16, nats per token", figure=_divergence, metric=None),
    Table(title="Accuracy, with drop against BF16 in points", figure=_accuracy, metric="accuracy_drop_points"),
    Table(title="Other tasks: accuracy and drop", figure=_other_tasks, metric=None),
    Table(title="By the files' own runtime, not judged: nats per token", figure=errors_by_source, metric=None),
    Table(title="Speed of the files' own runtime, not judged", figure=runtime_speed, metric=None),
    Table(title="Coherence: greedy outputs beside those of BF16", figure=coherence, metric=None),
)
