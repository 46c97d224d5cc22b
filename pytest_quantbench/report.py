"""Records → terminal lines and markdown. Computes nothing: every figure is in the records. Missing is "–"."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog import CRITERIA, METRICS
from pytest_quantbench.coherence import GUESSING_P
from pytest_quantbench.record import Record
from pytest_quantbench.suite import SuiteVerdict, holm_outcomes, judge_suite
from pytest_quantbench.verdict import Interval, Outcome, Verdict

MARKS: dict[Outcome, str] = {"pass": "✓", "fail": "✗", "undecided": "?", "informational": "·"}
MISSING = "–"
P_SHOWN = 1e-4  # smaller p values are shown as such
VERDICTS_LEGEND = (
    "p of good: how likely such data are if the truth is on the limit, and pass is wrong; p of bad: the same for fail; "
    "both allow for the looks. After Holm: over all criteria of the level's models. Can tell: how far from the limit "
    "the truth has to be for these samples to show it with 80 % power, in the criterion's unit."
)
LEGEND = "✓ pass · ✗ fail · ? undecided · · measured, not judged · – not measured. Intervals: 5 % error on each side."


def mark(record: Record, metric: str) -> str:
    """The sign of a record's verdict on a metric; empty if there is none."""
    return next((MARKS[verdict.outcome] for verdict in record.verdicts if verdict.metric == metric), "")


def interval(value: Interval | None, digits: int, sign: str = "") -> str:
    """`0.31 [0.12, 0.50]`, or the missing sign."""
    if value is None:
        return MISSING
    return f"{value.estimate:{sign}.{digits}f} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"


def number(value: float | None, digits: int) -> str:
    """A number, or the missing sign."""
    return MISSING if value is None else f"{value:.{digits}f}"


def _reduction(record: Record) -> str:
    size = record.compression
    return f"{100 * (1 - 1 / size.ratio):.1f} % ({size.bits_per_weight:.2f} bpw)" if size else MISSING


def _gigabytes(record: Record) -> str:
    return f"{record.compression.compressed_gb:.3g}" if record.compression else MISSING


def _speed(record: Record) -> str:
    part = record.throughput
    if part is None:
        return MISSING
    return f"{part.mean_tps:.1f}" + (f", {interval(part.ratio, 2)} ×" if part.ratio else "")


def _perplexity(record: Record) -> str:
    part = record.perplexity
    if part is None:
        return MISSING
    ppl = number(part.ppl, 3)
    return ppl if part.bf16_ppl is None else f"{ppl}, Δ {interval(part.delta_interval, 3, '+')}"


def _accuracy(record: Record) -> str:
    if record.accuracy is None:
        return MISSING
    name, task = next(iter(record.accuracy.tasks.items()))
    return f"{name} {task.accuracy:.1%}" + (f", drop {interval(task.drop_points, 1)}" if task.drop_points else "")


def _coherence(record: Record) -> str:
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
    Table(title="Accuracy, with drop against BF16 in points", figure=_accuracy, metric="accuracy_drop_points"),
    Table(title="Coherence: greedy outputs beside those of BF16", figure=_coherence, metric=None),
)


def terminal_line(record: Record) -> str:
    """One line for a cell: what was measured of it, with intervals and verdicts."""
    shown = [
        f"{table.figure(record)} {mark(record, table.metric)}".rstrip()
        for table in TABLES
        if table.metric is not None and table.figure(record) != MISSING
    ]
    return " │ ".join([f"{record.model_id}-{record.recipe}", *shown])


def sentences(record: Record) -> list[str]:
    """Why a cell failed or could not be decided: one sentence for each such verdict."""
    name = f"{record.model_id}-{record.recipe}"
    open_ = [verdict for verdict in record.verdicts if verdict.outcome in ("fail", "undecided")]
    return [f"{name} {verdict.outcome}: {explain(verdict)}" for verdict in open_]


def coherence_lines(records: Sequence[Record]) -> list[str]:
    """Which cells have collapsed, or that none has; nothing where coherence was not measured."""
    measured = [record for record in records if record.coherence is not None]
    collapsed = [record for record in measured if record.coherence is not None and record.coherence.collapsed]
    lines = [f"coherence: {record.model_id}-{record.recipe} has {_coherence(record)}" for record in collapsed]
    return lines or (["coherence: no cell has collapsed"] if measured else [])


def explain(verdict: Verdict | SuiteVerdict) -> str:
    """A verdict's sentence and, where it is undecided, what would settle it."""
    needed = f" {verdict.needed[0].upper()}{verdict.needed[1:]}." if verdict.needed else ""
    return verdict.sentence + needed


def suite_lines(records: Sequence[Record]) -> list[str]:
    """For every level with criteria: how many models meet them all."""
    levels = [level for level in CRITERIA if any(record.recipe == level for record in records)]
    return [f"{level}: {judge_suite(level, records).sentence}" for level in levels]


def _markdown_table(table: Table, records: Sequence[Record]) -> list[str]:
    recipes = list(dict.fromkeys(record.recipe for record in sorted(records, key=lambda record: -record.bits)))
    cells = {(record.model_id, record.recipe): record for record in records}
    lines = [f"## {table.title}", "", "| model | " + " | ".join(recipe.upper() for recipe in recipes) + " |"]
    lines.append("|---" * (len(recipes) + 1) + "|")
    for model in dict.fromkeys(record.model_id for record in records):
        row = []
        for recipe in recipes:
            record = cells.get((model, recipe))
            sign = mark(record, table.metric) if record and table.metric else ""
            row.append(f"{table.figure(record)} {sign}".rstrip() if record else MISSING)
        lines.append(f"| {model} | " + " | ".join(row) + " |")
    if table.metric is not None:
        lines.append("| *limit* | " + " | ".join(_limit(recipe, table.metric, records) for recipe in recipes) + " |")
    return [*lines, ""]


def _limit(recipe: str, metric: str, records: Sequence[Record]) -> str:
    """The limits that a recipe's verdicts were made with, as they stand in the records."""
    verdicts = [v for record in records if record.recipe == recipe for v in record.verdicts if v.metric == metric]
    limits = dict.fromkeys(verdict.limit for verdict in verdicts if verdict.limit is not None)
    sign = "≥" if METRICS[metric].better == "higher" else "<"
    return ", ".join(f"{sign} {limit:g} {METRICS[metric].unit}".rstrip() for limit in limits) or MISSING


def markdown(records: Sequence[Record], command: str) -> str:
    """The whole report: six tables, who meets the criteria and why not, then provenance and how to repeat it."""
    lines = ["# Quantization benchmark", "", LEGEND, ""]
    for table in TABLES:
        lines += _markdown_table(table, records)
    lines += ["## Criteria met", "", *(f"- {line}" for line in suite_lines(records)), ""]
    lines += _verdict_table(records)
    told = [f"- {sentence}" for record in records for sentence in sentences(record)]
    lines += ["### Failed or undecided", "", *(told or ["- none"]), ""]
    lines += ["## What was encoded", "", *_coverage(records), "", *_provenance(records, command)]
    return "\n".join(lines) + "\n"


def _verdict_table(records: Sequence[Record]) -> list[str]:
    """Every judged criterion: how sure, after how many looks, and what Holm's correction over its level leaves."""
    head = ["cell", "criterion", "verdict", "after Holm", "p of good", "p of bad", "samples", "looks", "can tell"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    corrected = {level: holm_outcomes(level, records) for level in CRITERIA}
    for record in records:
        family = corrected.get(record.recipe, {})
        for verdict in record.verdicts:
            if verdict.limit is None:
                continue
            after = family.get((record.model_id, verdict.metric))
            row = [f"{record.model_id}-{record.recipe}", METRICS[verdict.metric].label, verdict.outcome]
            row += [after or MISSING, _probability(verdict.p_good), _probability(verdict.p_bad)]
            row += [f"{verdict.items:,} {METRICS[verdict.metric].items}" if verdict.items else MISSING]
            row += [str(len(verdict.looks) or 1), number(verdict.detectable, 2)]
            lines.append(f"| {' | '.join(row)} |")
    return ["### Verdicts", "", *lines, "", VERDICTS_LEGEND, ""]


def _probability(p: float | None) -> str:
    return MISSING if p is None else f"{p:.2g}" if p >= P_SHOWN else f"< {P_SHOWN:g}"


def _coverage(records: Sequence[Record]) -> list[str]:
    lines = []
    for record in records:
        if record.compression is None or record.level == "bf16":
            continue
        part = record.compression
        lines.append(
            f"- {record.model_id}-{record.recipe}: {100 * part.quantized_fraction:.2f} % of the parameters quantized, "
            f"{len(part.kept)} tensors kept as they were; decoder layers {part.inner_bits_per_weight:.3f} bpw, "
            f"embeddings and head {number(part.outer_bits_per_weight, 3)} bpw; decoded weights "
            f"`{(record.weights_sha256 or MISSING)[:12]}`"
        )
        counted: dict[str, int] = {}
        for note in part.notes.values():
            counted[note] = counted.get(note, 0) + 1
        lines += [f"  - {count} matrices: {note}" for note, count in counted.items()]
    return lines


def _provenance(records: Sequence[Record], command: str) -> list[str]:
    lines = ["## Machine, versions, seeds", ""]
    machines = {record.machine.chip + record.machine.backend: record.machine for record in records if record.machine}
    for machine in machines.values():
        versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        lines.append(
            f"- {machine.chip}, {machine.cores} cores, {machine.memory_gb} GB, {machine.os}, {machine.backend}"
        )
        lines.append(f"- {versions}")
    lines.append(f"- seeds: {', '.join(sorted({str(record.seed) for record in records}))}")
    protocols = {f"T2 on {r.perplexity.corpus}: {r.perplexity.protocol}" for r in records if r.perplexity}
    tasks = {f"T3 {n}: {t.questions} questions" for r in records if r.accuracy for n, t in r.accuracy.tasks.items()}
    runs = {
        f"T1: {r.throughput.runs} runs, activations {r.throughput.activations}, "
        + ("interleaved with the reference" if r.throughput.interleaved else "after the reference")
        for r in records
        if r.throughput and r.level != "bf16"
    }
    lines += [f"- {line}" for line in sorted(protocols) + sorted(tasks) + sorted(runs)]
    return [*lines, "", "## Repeat it", "", f"    {command}", "    quantbench report results", ""]
