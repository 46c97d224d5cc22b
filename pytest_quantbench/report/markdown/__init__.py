"""Records → the markdown report: the answer, then the figures, then how to repeat it. Computes nothing: every figure is
in the records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.answers import answers
from pytest_quantbench.report.markdown import (
    caches,
    candidate_files,
    criteria_met,
    loading,
    model_tables,
    notes,
    publication,
    repeat,
    retrieval,
    summary_tables,
    sweeps,
    verdict_table,
)
from pytest_quantbench.report.markdown.escaped import text

TITLE = "# Quantization benchmark"
SIGNS = (
    "✓ pass · ✗ fail · ? undecided · ! better than its reference · · measured, not judged · – not measured. Behind a "
    "figure stands its interval, with an error of 5 % on each side, or less where a criterion was decided before its "
    "last evaluation; an end … cannot be told from so few samples. BF16 is the original, which all others are compared "
    "with."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A chart beside the report: its title and what one sees in it, which stand in it too, and where it lies from the
    report.
    """

    title: str
    tells: str
    path: str


def markdown(
    records: Sequence[Record], commands: Sequence[str], pictures: Sequence[Picture] = (), lacking: str = ""
) -> str:
    """The whole report. `commands` make it again; `lacking` says why there are no pictures."""
    lines = [TITLE, "", *(f"- {text(sentence)}" for sentence in answers(records)), ""]
    lines += [SIGNS, "", *summary_tables.section(records), *caches.section(records), *criteria_met.section(records)]
    lines += _pictures(pictures, lacking)
    lines += model_tables.section(records)
    lines += sweeps.section(records)
    lines += verdict_table.section(records)
    lines += retrieval.section(records)
    lines += notes.baseline(records)
    lines += candidate_files.differences(records)
    lines += candidate_files.runtimes(records)
    lines += loading.section(records)
    lines += notes.coherence(records)
    lines += notes.integrity(records)
    lines += notes.tasks(records)
    lines += notes.coverage(records)
    lines += publication.section(records)
    lines += repeat.section(records, commands)
    return "\n".join(lines).rstrip() + "\n"


def _pictures(pictures: Sequence[Picture], lacking: str) -> list[str]:
    if not pictures and not lacking:
        return []
    lines = ["## Pictures", "", *([text(lacking), ""] if lacking else [])]
    for picture in pictures:
        lines += [f"![{text(picture.title)}. {text(picture.tells)}]({quote(picture.path)})", ""]
    return lines
