"""Records and verdicts → what GitHub shows of a workflow's run: a job summary, and annotations on its page."""

from collections.abc import Sequence

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record.cache_schema import Cache
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import regressions, shown_metrics
from pytest_quantbench.record.suite import worst
from pytest_quantbench.report import markdown_table, terminal
from pytest_quantbench.report.answers import answer, answers
from pytest_quantbench.report.tables import MARKS, MISSING, tiny

MOST_SUMMARY_BYTES = 1024 * 1024  # of a step; GitHub takes none of what is longer
MOST_ANNOTATIONS = 10  # of one level and one step: GitHub shows no more
LEVELS = ("error", "warning")
FOLDED = "Failed, undecided, anomalous, or worse than the baseline"
LEGEND = (
    "✓ pass · ✗ fail · ? undecided · ! better than its reference · · measured, not judged · – not measured. Estimates "
    "with their intervals, of the check that came out worst."
)


def annotation(level: str, message: str, title: str, file: str | None = None, line: int | None = None) -> str:
    """A workflow command, one line of a step's output: `::error file=test_gate.py,line=7,title=…::…`.

    `file` is relative to the repository's root, `line` counts from 1.
    """
    told = {"file": file, "line": None if file is None else line, "title": title}
    properties = ",".join(f"{name}={_property(str(value))}" for name, value in told.items() if value is not None)
    return f"::{level} {properties}::{_text(message)}"


def _text(value: str) -> str:
    """A command ends with its line; `%` announces what stands for a character."""
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    """Properties are separated by commas, and end with a colon."""
    return _text(value).replace(":", "%3A").replace(",", "%2C")


def shown(annotations: Sequence[str]) -> list[str]:
    """These annotations, as many of each level as GitHub shows, the last of them saying how many more there are."""
    kept = []
    for level in LEVELS:
        found = [line for line in annotations if line.startswith(f"::{level} ")]
        if len(found) > MOST_ANNOTATIONS:
            more = len(found) - MOST_ANNOTATIONS + 1
            told = f"And {more} more, which the job summary and the log have."
            found = [*found[: MOST_ANNOTATIONS - 1], annotation(level, told, "quantbench")]
        kept += found
    return kept


def summary(records: Sequence[Record], beside: Sequence[Record] = ()) -> str:
    """The job summary in markdown: answers, a table with a row for every cell, and why checks failed or are open.
    `beside`: references that have no row, whose noise floor is told.
    """
    metrics = shown_metrics(records)
    columns = ["cell", "verdict", "bits per weight", *(METRICS[metric].label for metric in metrics)]
    rows = [
        [record.cell, _word(record), _bits(record), *(_verdict(worst(record, metric)) for metric in metrics)]
        for record in records
    ]
    told = [f"- {_plain(sentence)}" for record in records for sentence in _why(record)]
    lines = ["## Quantization", "", *(f"- {_plain(line)}" for line in answers([*beside, *records]))]
    lines += [""]
    lines += [*markdown_table.table(columns, rows), "", LEGEND, ""]
    if held := [f"- {_plain(cache(record))}" for record in records if record.cache is not None]:
        lines += [*held, ""]
    if told:
        lines += [
            "<details><summary>Failed, undecided, anomalous, or worse than the baseline</summary>",
            "",
            *told,
            "",
            "</details>",
            "",
        ]
    return "\n".join(lines) + "\n"


def cache(record: Record) -> str:
    """`Tiny-kv8 holds its key-value cache by affine (bits 8): 8.50 bits per number, 46.9 % less than BF16's …`"""
    part = record.cache
    assert part is not None
    chosen = ", ".join(f"{name} {value}" for name, value in part.parameters.items())
    told = f"{record.cell} holds its key-value cache by {part.method}{f' ({chosen})' if chosen else ''}"
    if part.size is None:
        return f"{told}; what it takes was not measured."
    size = part.size
    return (
        f"{told}: {size.bits_per_value:.2f} bits per number, {size.reduction_percent:.1f} % less than BF16's where a "
        f"text has {size.tokens:,} tokens.{_noise(record, part)}"
    )


def fitting(text: str, taken_bytes: int) -> str:
    """A summary as GitHub takes it where a step has written so many bytes already: whole, or cut behind a line, with a
    sentence that says so. Empty where not even that has room.
    """
    if taken_bytes + len(text.encode()) <= MOST_SUMMARY_BYTES:
        return text
    ending = "\n\n*Cut here: GitHub takes 1 MiB of a step. The markdown report in the results folder is complete.*\n"
    room = MOST_SUMMARY_BYTES - taken_bytes - len(ending.encode())
    kept, comma, _ = text.encode()[: max(room, 0)].rpartition(b"\n")
    return kept.decode() + ending if comma else ""


def _noise(record: Record, part: Cache) -> str:
    """Whether what a cache changes is more than noise, as a sentence; empty where it was not measured."""
    divergence = record.perplexity and record.perplexity.divergence
    if not divergence or part.noise_nats is None:
        return ""
    within = "within" if part.kl_within_noise else "beyond"
    return (
        f" Its KL divergence of {tiny(divergence.kl_nats)} nats is {within} the noise floor of {tiny(part.noise_nats)}."
    )


def _word(record: Record) -> str:
    said = answer(record)
    return "reference" if said is None else said.word


def _why(record: Record) -> list[str]:
    """What is worse than the baseline, and each check that failed or is open."""
    worse = [f"{record.cell} worse than its baseline: {change.sentence}" for change in regressions(record)]
    return [*worse, *terminal.sentences(record)]


def _bits(record: Record) -> str:
    return MISSING if record.compression is None else f"{record.compression.bits_per_weight:.2f}"


def _verdict(verdict: Verdict | None) -> str:
    """`✓ 0.002 [-0.143, 0.184]`, with at most three digits behind the point."""
    if verdict is None:
        return MISSING
    ends = [verdict.estimate, verdict.low, verdict.high]
    estimate, low, high = (MISSING if end is None else f"{end:z.3f}".rstrip("0").rstrip(".") for end in ends)
    between = "" if low == high else f" [{low}, {high}]"
    return f"{MARKS[verdict.outcome]} {estimate}{between}"


def _plain(sentence: str) -> str:
    """A sentence in which markdown and HTML find nothing of their own."""
    return " ".join(sentence.split()).replace("&", "&amp;").replace("<", "&lt;")
