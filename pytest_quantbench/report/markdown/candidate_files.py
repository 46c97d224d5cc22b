"""Of files that somebody else made: whose they are, what differs from the original, how their own runtime does."""

from collections.abc import Sequence

from pytest_quantbench.record.candidate_schema import CandidateFile
from pytest_quantbench.record.runtime_schema import Runtime
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import code, text
from pytest_quantbench.report.markdown.figures import TIED, percent, ranged
from pytest_quantbench.report.tables import MISSING, significant
from pytest_quantbench.stats.estimates import Interval

COLUMNS = ("Cell", "Format", "Made from", "Least like the original's", "Differs from the reference in")
LEGEND = (
    "Candidates are judged with the reference's tokenizer, chat template and settings, and with its positions, epsilon "
    "and windows unless `--candidate-config own` says otherwise."
)
RUNTIME_COLUMNS = (
    "Cell",
    "Runtime",
    "File error, nats",
    "Engine error, nats",
    "… rms, most",
    "Same top token, %",
    "KL as it runs, nats",
    "Decode, tokens/s",
    "Prefill, tokens/s",
    "Gap p50, p95, ms",
    "Load, s",
    "Peak, GB",
    "Tokens",
)
RUNTIME_LEGEND = (
    "Not judged. *File error*: what the file lost, per token, against BF16. *Engine error*: what the runtime's own "
    "arithmetic adds to that, or takes away; *same top token*: how often both agree on the likeliest token."
)


def differences(records: Sequence[Record]) -> list[str]:
    """A row for each candidate; nothing without one."""
    rows = [_row(record, record.candidate) for record in records if record.candidate is not None]
    return ["## Candidates", "", *markdown_table.table(COLUMNS, rows), "", LEGEND, ""] if rows else []


def _row(record: Record, part: CandidateFile) -> list[str]:
    told = [f"{each.what} {each.candidate} (reference: {each.reference})" for each in part.differences]
    told = ["its own config was run", *told] if part.own_config else told
    least = f"{code(part.least_cosine_tensor)} (cosine{TIED}{part.least_cosine:.4f})"
    name, base = text(record.cell), text(part.base_model or MISSING)
    return [name, text(part.format), base, least, text("; ".join(told)) or MISSING]


def runtimes(records: Sequence[Record]) -> list[str]:
    """A row for each candidate that its own runtime ran; nothing without one."""
    rows = [_runtime(record, record.runtime) for record in records if record.runtime is not None]
    if not rows:
        return []
    return ["## By the files' own runtimes", "", RUNTIME_LEGEND, "", *markdown_table.table(RUNTIME_COLUMNS, rows), ""]


def _runtime(record: Record, part: Runtime) -> list[str]:
    lost, added, speed = part.file_error, part.engine_error, part.speed
    spread = "" if speed.decode_tps_std is None else f"{TIED}±{TIED}{speed.decode_tps_std:.1f}"
    return [
        text(record.cell),
        text(f"{part.runtime} ({part.version})"),
        _nats(lost.mean_nats, lost.interval),
        _nats(added.mean_nats, added.interval),
        f"{significant(added.rms_nats, 2)}, {significant(added.largest_nats, 2)}",
        percent(added.same_top.estimate),
        significant(part.kl_nats, 2),
        f"{speed.decode_tps:.1f}{spread}",
        f"{speed.prefill_tps:.0f}",
        f"{1000 * speed.gap_sec['50']:.1f}, {1000 * speed.gap_sec['95']:.1f}",
        f"{speed.load_sec:.2f}",
        significant(part.peak_gb),
        f"{part.tokens:,}",
    ]


def _nats(mean: float, found: Interval | None) -> str:
    return f"{mean:+.4f}" if found is None else ranged(found, 4, "+")
