"""A record's figures as text, and which look's they are. Computes nothing. Missing is "–"."""

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
    return f"{value.estimate:{sign}z.{digits}f} [{value.low:{sign}z.{digits}f}, {value.high:{sign}z.{digits}f}]"


def number(value: float | None, digits: int) -> str:
    """A number, or the missing sign."""
    return MISSING if value is None else f"{value:z.{digits}f}"


def significant(value: float, digits: int = 3) -> str:
    """So many digits that count, never as a power of ten: `0.00734`, `12.3`, `4,096`."""
    if value == 0 or not 1e-12 < abs(value) < 1e15:
        return f"{value:g}"
    places = digits - 1 - int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value: 0.9996 is 1.00
    return f"{value:,.{max(places, 0)}f}"


def tiny(value: float) -> str:
    """Two digits that count, of what may be next to nothing: `0.0012`, `3.7e-7`."""
    if value == 0 or abs(value) >= 1e-4:
        return significant(value, 2)
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}"


def share_of_bandwidth(share: float | None) -> str:
    """`68 %` of the tokens per second that reading the weights allows; empty where it was not measured."""
    return "" if share is None else f"{significant(100 * share, 2)} %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is shown of a judged figure: all of one look, so that the figures are of the samples of the interval."""

    value: float | None
    reference: float | None
    items: int  # of the figures
    interval: Interval | None
    note: str = ""  # where the interval is of other samples


def decided(record: Record, metric: str, plain: Shown, of: str | None = None) -> Shown:
    """The look that decided the worst verdict on a text or task, the first where none is given; the plain figures, of
    all samples, where nothing was judged.
    """
    verdict = worst(record, metric, of or first_of(record, metric))
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
    return f"{mean:+z.4f}" if found is None else interval(found, 4, "+")
