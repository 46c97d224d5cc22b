"""Records → the markdown report. Computes nothing: every figure is in the records."""

from collections.abc import Mapping, Sequence

from pytest_quantbench.catalog.criteria import INSENSITIVE_TASKS, METRICS, SENSITIVE_TASKS
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import holm_outcomes
from pytest_quantbench.report import candidates, markdown_table
from pytest_quantbench.report.tables import MISSING, TABLES, Table, calibration, first_of, mark, number
from pytest_quantbench.report.terminal import LEGEND, integrity_lines, sentences, suite_lines

OTHER_TEXT = "†"
OTHER_TEXT_LEGEND = (
    f"{OTHER_TEXT}: read from another text or in other windows than the BF16 column, not comparable with it; what it "
    "is compared with was read as it was."
)
P_SHOWN = 1e-4  # smaller p values are shown as such
VERDICT_COLUMNS = tuple("cell,criterion,limit,verdict,after Holm,p of good,p of bad,samples,looks,can tell".split(","))
VERDICTS_LEGEND = (
    "p of good: how likely such data are if the truth is on the limit, and pass is wrong; p of bad: the same for fail; "
    "both allow for the looks. After Holm: over all criteria of the recipe's models. Can tell: how far from the limit "
    "the truth has to be for these samples to show it with 80 % power, in the criterion's unit."
)


def _markdown_table(table: Table, records: Sequence[Record]) -> list[str]:
    """Nothing where the table judges nothing and nothing of it was measured."""
    if table.metric is None and all(table.figure(record) == MISSING for record in records):
        return []
    recipes = list(dict.fromkeys(record.recipe for record in sorted(records, key=lambda record: -record.bits)))
    cells = {(record.model_id, record.recipe): record for record in records}
    rows = []
    for model in dict.fromkeys(record.model_id for record in records):
        rows.append([model])
        for recipe in recipes:
            record = cells.get((model, recipe))
            sign = mark(record, table.metric, first_of(record, table.metric)) if record and table.metric else ""
            other = table.metric == "perplexity_delta" and record is not None and _reads_otherwise(record, cells)
            shown = (table.figure(record), sign, OTHER_TEXT if other else "") if record else (MISSING,)
            rows[-1].append(" ".join(filter(None, shown)))
    note = [OTHER_TEXT_LEGEND, ""] if any(OTHER_TEXT in cell for row in rows for cell in row) else []
    if table.metric is not None:
        rows.append(["*limit*", *(_limit(recipe, table.metric, records) for recipe in recipes)])
    named = {record.recipe for record in records if record.candidate is not None}
    titles = [recipe if recipe in named else recipe.upper() for recipe in recipes]
    return [f"## {table.title}", "", *note, *markdown_table.table(["model", *titles], rows), ""]


def _reads_otherwise(record: Record, cells: Mapping[tuple[str, str], Record]) -> bool:
    """Whether T2 of a cell followed another protocol than that of the model's BF16 record, or had another text."""
    reference = cells.get((record.model_id, "bf16"))
    if record.perplexity is None or reference is None or reference.perplexity is None:
        return False
    return record.perplexity.protocol_sha256 != reference.perplexity.protocol_sha256


def _limit(recipe: str, metric: str, records: Sequence[Record]) -> str:
    """The limits that a recipe's verdicts were made with, as they stand in the records."""
    verdicts = [v for record in records if record.recipe == recipe for v in record.verdicts if v.metric == metric]
    limits = dict.fromkeys(verdict.limit for verdict in verdicts if verdict.limit is not None)
    return ", ".join(_bound(metric, limit) for limit in limits) or MISSING


def _bound(metric: str, limit: float) -> str:
    sign = "≥" if METRICS[metric].better == "higher" else "<"
    return f"{sign} {limit:g} {METRICS[metric].unit}".rstrip()


def markdown(records: Sequence[Record], commands: Sequence[str]) -> str:
    """The whole report: the tables, who meets the criteria and why not, then provenance and how to repeat it."""
    lines = ["# Quantization benchmark", "", LEGEND, ""]
    for table in TABLES:
        lines += _markdown_table(table, records)
    lines += ["## Criteria met", "", *(f"- {line}" for line in suite_lines(records)), ""]
    lines += _verdict_table(records)
    told = [f"- {sentence}" for record in records for sentence in sentences(record)]
    lines += ["### Failed, undecided or anomalous", "", *(told or ["- none"]), ""]
    if found := integrity_lines(records, most=None):
        lines += ["### Are the weights what they should be?", "", *(f"- {line}" for line in found), ""]
    lines += _task_notes(records)
    lines += candidates.section(records)
    lines += ["## What was encoded", "", *_coverage(records), "", *_provenance(records, commands)]
    return "\n".join(lines) + "\n"


def _verdict_table(records: Sequence[Record]) -> list[str]:
    """Every judged criterion: how sure, after how many looks, and what Holm's correction over its recipe leaves."""
    rows = []
    corrected = {recipe: holm_outcomes(recipe, records) for recipe in {record.recipe for record in records}}
    for record in records:
        family = corrected[record.recipe]
        for verdict in record.verdicts:
            if verdict.limit is None:
                continue
            after, metric = family.get((record.model_id, verdict.criterion)), METRICS[verdict.metric]
            name = f"{metric.label}, {verdict.of}" if verdict.of else metric.label
            row = [f"{record.model_id}-{record.recipe}", name, _bound(verdict.metric, verdict.limit), verdict.outcome]
            row += [after or MISSING, _probability(verdict.p_good), _probability(verdict.p_bad)]
            row += [f"{verdict.items:,} {metric.items}" if verdict.items else MISSING]
            rows.append([*row, str(len(verdict.looks) or 1), number(verdict.detectable, 2)])
    return ["### Verdicts", "", *markdown_table.table(VERDICT_COLUMNS, rows), "", VERDICTS_LEGEND, ""]


def _probability(p: float | None) -> str:
    return MISSING if p is None else f"{p:.2g}" if p >= P_SHOWN else f"< {P_SHOWN:g}"


def _task_notes(records: Sequence[Record]) -> list[str]:
    """What the tasks that were asked can see of quantization, and what it would take."""
    asked = dict.fromkeys(name for record in records if record.accuracy for name in record.accuracy.tasks)
    if not asked:
        return []
    lines = ["## What the tasks can see", ""]
    blunt = [name for name in asked if name in INSENSITIVE_TASKS or name.startswith("mmlu")]
    if blunt:
        lines += [f"- Known to be insensitive to quantization (multiple choice): {', '.join(blunt)}. Tasks that write"]
        lines[-1] += f" their answers lose first: {', '.join(SENSITIVE_TASKS)}."
    if keen := [name for name in asked if name in SENSITIVE_TASKS]:
        lines.append(f"- Known to be sensitive to quantization (written answers): {', '.join(keen)}.")
    for record in records:
        for name, task in record.accuracy.tasks.items() if record.accuracy else ():
            if task.questions_for_one_point is not None:
                told = (
                    f"{task.questions:,} questions asked, {task.questions_for_one_point:,} would tell a drop of 1 point"
                )
                lines.append(f"- {record.model_id}-{record.recipe}, {name}: {told}")
    return [*lines, ""]


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
        lines += [f"  - calibrated on {told}"] if (told := calibration(record)) else []
        said: dict[str, list[str]] = {}
        for name, note in part.notes.items():
            said.setdefault(note, []).append(name)
        lines += [f"  - {_of(names)}: {note}" for note, names in said.items()]
    return lines


def _of(names: Sequence[str]) -> str:
    """Which matrices a note is of: one or two by name, as where experts of a layer are told, many by their number."""
    return " and ".join(f"`{name}`" for name in names) if len(names) <= 2 else f"{len(names)} matrices"


def _provenance(records: Sequence[Record], commands: Sequence[str]) -> list[str]:
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
        f"T1: {r.throughput.total_runs} runs, activations {r.throughput.activations}, "
        + ("interleaved with the reference" if r.throughput.interleaved else "after the reference")
        for r in records
        if r.throughput and r.level != "bf16"
    }
    lines += [f"- {line}" for line in sorted(protocols) + sorted(tasks) + sorted(runs)]
    return [*lines, "", "## Repeat it", "", *(f"    {command}" for command in commands), ""]
