"""What stands behind the figures: whether models still make sense, what tasks can see, and what was encoded."""

from collections.abc import Sequence

from pytest_quantbench.catalog.criteria import INSENSITIVE_TASKS, SENSITIVE_TASKS
from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.judge.coherence import Coherence
from pytest_quantbench.record.schema import Compression, Record
from pytest_quantbench.record.state import since_baseline
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import code, text
from pytest_quantbench.report.markdown.figures import percent
from pytest_quantbench.report.phrases import joined
from pytest_quantbench.report.tables import MISSING, number, significant

COHERENCE_COLUMNS = (
    "Cell",
    "Collapsed?",
    "Outputs that loop",
    "… where BF16's do not",
    "First token as BF16's, %",
    "Tokens alike from the start",
    "Right by guessing",
)
COHERENCE_LEGEND = (
    "Collapse is another thing than being a little worse: outputs that repeat themselves where BF16's do not, or "
    "answers as right as guessing has them where BF16's are better. *Right by guessing*: how often guessing alone is "
    "right on as many questions of the first task."
)


def coherence(records: Sequence[Record]) -> list[str]:
    """A row for each cell whose outputs or answers were looked at; nothing without one."""
    rows = [_coherent(record, record.coherence) for record in records if record.coherence and _compressed(record)]
    if not rows:
        return []
    table = markdown_table.table(COHERENCE_COLUMNS, rows)
    return ["## Do they still make sense?", "", COHERENCE_LEGEND, "", *table, ""]


def _compressed(record: Record) -> bool:
    return record.recipe != REFERENCE.id


def _coherent(record: Record, part: Coherence) -> list[str]:
    signs = [word for found, word in ((part.loops, "it loops"), (part.guesses, "it guesses")) if found]
    looked = part.loops is not None or part.guesses is not None
    verdict = f"**yes: {joined(signs)}**" if signs else "no" if looked else MISSING
    guessing = MISSING if part.guessing_p is None else _rare(part.guessing_p)
    looping = MISSING if part.looping is None else f"{part.looping} of {part.prompts}"
    return [
        text(record.cell),
        verdict,
        looping,
        MISSING if part.only_here is None else str(part.only_here),
        percent(part.first_token_agreement, 0),
        number(part.greedy_prefix_tokens, 1),
        guessing,
    ]


def _rare(p: float) -> str:
    return "never (< 0.01 %)" if p < 1e-4 else f"{significant(100 * p, 2)} % of the time"


def integrity(records: Sequence[Record]) -> list[str]:
    """What is wrong with decoded weights and in what they may differ on purpose, or that nothing is."""
    compared = [record for record in records if record.integrity is not None]
    if not compared:
        return []
    lines = [f"- {text(record.cell)}: {text(told)}" for record in compared for told in record.integrity or ()]
    lines += [
        f"- {text(record.cell)} differs from its reference: {text(note)}"
        for record in compared
        for note in record.integrity_notes
    ]
    lines = lines or ["- Of all cells whose weights were compared, they are the source's, but for rounding."]
    return ["## Are the weights what they should be?", "", *lines, ""]


def baseline(records: Sequence[Record]) -> list[str]:
    """What is worse than the baseline, and what could not be compared with it; nothing for a run without one."""
    found = [(record.cell, change) for record in records for change in since_baseline(record)]
    if not found:
        return []
    told = [(cell, change) for cell, change in found if change.word in ("regression", "not compared")]
    told.sort(key=lambda each: each[1].word, reverse=True)
    lines = [f"- {text(cell)}: {text(change.sentence)}" for cell, change in told]
    if not any(change.word == "regression" for _, change in told) and len(told) < len(found):
        lines.insert(
            0, f"- None of the figures that were compared ({len(found) - len(told)}) is worse beyond the noise."
        )
    return ["## What got worse since the baseline", "", *lines, ""]


def tasks(records: Sequence[Record]) -> list[str]:
    """What the tasks that were asked can see of quantization, and what it would take."""
    asked = dict.fromkeys(name for record in records if record.accuracy for name in record.accuracy.tasks)
    if not asked:
        return []
    lines = []
    if blunt := [name for name in asked if name in INSENSITIVE_TASKS or name.startswith("mmlu")]:
        lines.append(
            f"- Known to be insensitive to quantization (multiple choice): {text(', '.join(blunt))}. Tasks that write "
            f"their answers lose first: {', '.join(SENSITIVE_TASKS)}."
        )
    if keen := [name for name in asked if name in SENSITIVE_TASKS]:
        lines.append(f"- Known to be sensitive to quantization (written answers): {text(', '.join(keen))}.")
    rows = [
        [text(record.cell), text(name), f"{task.questions:,}", f"{task.questions_for_one_point:,}"]
        for record in records
        for name, task in (record.accuracy.tasks.items() if record.accuracy else ())
        if task.questions_for_one_point is not None
    ]
    lines += [""] if lines else []
    if rows:
        lines += [*markdown_table.table(("Cell", "Task", "Questions asked", "To tell a drop of 1 point"), rows), ""]
    return ["## What the tasks can see", "", *lines] if lines else []


def coverage(records: Sequence[Record]) -> list[str]:
    """What was encoded of each cell, what was left as it was, and what was done otherwise than the recipe says."""
    found = [(record, record.compression) for record in records if _compressed(record)]
    lines = [line for record, part in found if part is not None for line in _covered(record, part)]
    return ["## What was encoded", "", *lines, ""] if lines else []


def _covered(record: Record, part: Compression) -> list[str]:
    """Notes and reasons that are the same for many tensors are told once."""
    kept = "tensor" if len(part.kept) == 1 else "tensors"
    lines = [
        f"- {text(record.cell)}: {100 * part.quantized_fraction:.2f} % of the parameters quantized, "
        f"{len(part.kept):,} {kept} kept as they were"
    ]
    said: dict[str, list[str]] = {}
    for name, note in part.notes.items():
        said.setdefault(note, []).append(name)
    return lines + [f"  - {_of(names)}: {text(note)}" for note, names in said.items()]


def _of(names: Sequence[str]) -> str:
    """Which matrices a note is of: one or two by name, as where experts of a layer are told, many by their number."""
    return " and ".join(map(code, names)) if len(names) <= 2 else f"{len(names)} matrices"
