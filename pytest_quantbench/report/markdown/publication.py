"""What a publication of these figures has to say of each model: what was measured, how, with what, on what."""

from collections.abc import Callable, Sequence

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.record.completeness import missing
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import code, text
from pytest_quantbench.report.markdown.figures import ranged
from pytest_quantbench.report.tables import MISSING, calibration, significant

INTRODUCTION = "One table for each model and machine. What differs between its recipes stands behind each one's name."


def section(records: Sequence[Record]) -> list[str]:
    """A table for each model and machine."""
    lines = ["## For a publication", "", INTRODUCTION, ""]
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.model_id, str(record.machine and record.machine.chip)), []).append(record)
    for (model, _), mine in groups.items():
        rows = [[title, _alike(of, mine)] for title, of in ROWS]
        lines += [f"### {text(model)}: how it was measured", "", *markdown_table.table(("", ""), rows), ""]
    return lines


def _alike(of: Callable[[Record], str], records: Sequence[Record]) -> str:
    """What is said of all records, once; where it differs, with the recipes that it is said of."""
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(of(record), []).append(record.recipe)
    found.pop("", None)
    if len(found) < 2:
        return next(iter(found), MISSING)
    return "; ".join(f"{text(', '.join(recipes))}: {told}" for told, recipes in found.items() if told != MISSING)


def _source(record: Record) -> str:
    told = f"{code(record.source)}, revision {code(record.revision or MISSING)}"
    return f"{told}, files `{record.source_sha256[:12]}`"


def _facts(record: Record) -> str:
    part = record.facts
    if part is None:
        return ""
    told = [f"{part.parameters:,} parameters", text(part.architecture)]
    sizes = {
        "layers": part.layers,
        "hidden size": part.hidden_size,
        "vocabulary": part.vocabulary,
        "context": part.context_tokens,
    }
    return ", ".join([*told, *(f"{name} {size:,}" for name, size in sizes.items() if size is not None)])


def _parameters(record: Record) -> str:
    if record.candidate is not None:
        return f"{text(record.candidate.format)} from {code(record.candidate.source)}"
    return ", ".join(f"{code(name)} = {text(value)}" for name, value in record.recipe_parameters.items())


def _weights(record: Record) -> str:
    return f"`{record.weights_sha256[:12]}`" if record.weights_sha256 else ""


def _calibration(record: Record) -> str:
    if record.recipe == REFERENCE.id or record.compression is None:
        return ""
    return text(calibration(record)) or "none"


def _perplexity(record: Record) -> str:
    part = record.perplexity
    if part is None:
        return ""
    revision = f", revision {code(part.corpus_revision)}" if part.corpus_revision else ""
    return f"{text(part.corpus)} (sha256 `{part.corpus_sha256[:12]}`{revision}): {text(part.protocol)}"


def _accuracy(record: Record) -> str:
    """Without how many questions, which stand beside the figures."""
    tasks = record.accuracy.tasks if record.accuracy else {}
    told = [f"{text(name)} (version {text(task.version)}, sha256 `{task.sha256[:12]}`)" for name, task in tasks.items()]
    return ", ".join([*told, "no chat template"]) if told else ""


def _throughput(record: Record) -> str:
    part = record.throughput
    if part is None:
        return ""
    beside = "" if record.recipe == REFERENCE.id else ", BF16 in turn" if part.interleaved else ", after BF16"
    prompts = "" if part.prompts is None else f" of {part.prompts} prompts"
    new = "" if part.new_tokens is None else f" of {part.new_tokens:,} new tokens"
    return f"batch 1, {part.total_runs} runs{prompts}{new}, activations in {text(part.activations)}{beside}"


def _machine(record: Record) -> str:
    part = record.machine
    if part is None:
        return ""
    memory = f"{part.memory_gb:g} GB"
    return f"{text(part.chip)}, {part.cores} cores, {memory}, {text(part.os)}, {text(part.runs_on)}"


def _accelerator(record: Record) -> str:
    part = record.accelerator
    if part is None:
        return "none: a CPU" if record.machine is not None and record.machine.backend == "cpu" else ""
    clocks = {
        "clock": part.clock_mhz,
        "at most": part.most_clock_mhz,
        "memory clock": part.memory_clock_mhz,
    }
    memory = "" if part.memory_gb is None else f", {part.memory_gb:g} GB"
    told = [f"{text(part.name)}{memory}", f"driver {text(part.driver or MISSING)}"]
    return ", ".join([*told, *(f"{name} {mhz:,.0f} MHz" for name, mhz in clocks.items() if mhz is not None)])


def _software(record: Record) -> str:
    versions = record.machine.versions if record.machine else {}
    return text(", ".join(f"{name} {version}" for name, version in versions.items()))


def _cost(record: Record) -> str:
    part = record.cost
    if part is None:
        return ""
    money = text(part.currency)
    tokens = part.suppressed or f"{ranged(part.per_million_tokens, 2)} {money} per million tokens"
    spread = "" if part.volume_tokens is None else f", to be spread over {part.volume_tokens:,} tokens"
    compressing = f"{significant(part.compression)} {money} for compressing{spread}"
    return " ".join(f"{part.price_per_hour:g} {money} per hour: {tokens}, {compressing}".split())


def _lacking(record: Record) -> str:
    if not (found := len(missing(record))):
        return "yes"
    return f"lacks {found} of what a publication asks for, which `quantbench report --complete` lists"


ROWS: Sequence[tuple[str, Callable[[Record], str]]] = (
    ("Model", _facts),
    ("Weights", _source),
    ("Quantizer", _parameters),
    ("Decoded weights, SHA-256", _weights),
    ("Calibration", _calibration),
    ("Perplexity", _perplexity),
    ("Accuracy", _accuracy),
    ("Throughput", _throughput),
    ("Machine", _machine),
    ("Accelerator", _accelerator),
    ("Software", _software),
    ("Cost", _cost),
    ("Seed", lambda record: str(record.seed)),
    ("Measured", lambda record: text(record.timestamp)),
    ("Complete?", _lacking),
)
