"""Records of candidates → what a report and a terminal say of their files: whose they are, and what differs."""

from collections.abc import Iterator, Sequence

from pytest_quantbench.record.candidate_schema import CandidateFile
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report import markdown_table

MISSING = "–"
COLUMNS = (
    "cell",
    "format",
    "bits per weight",
    "made from",
    "cosine, median and least",
    "differs from the reference in",
)
LEGEND = (
    "Candidates are judged with the reference's tokenizer, chat template and settings, and with its positions, epsilon "
    "and windows unless `--candidate-config own` says otherwise. Cosines are of sampled rows of decoded matrices with "
    "the original's."
)


def _found(records: Sequence[Record]) -> Iterator[tuple[str, CandidateFile]]:
    """Candidates by the names of their cells."""
    for record in records:
        if record.candidate is not None:
            yield f"{record.model_id}-{record.recipe}", record.candidate


def section(records: Sequence[Record]) -> list[str]:
    """The report's section; nothing without candidates."""
    rows = [
        [
            name,
            part.format,
            f"{part.stored_bits_per_weight:.2f}",
            part.base_model or MISSING,
            f"{part.median_cosine:.4f}, {part.least_cosine:.4f} ({part.least_cosine_tensor})",
            _differences(part),
        ]
        for name, part in _found(records)
    ]
    return ["## Candidates", "", *markdown_table.table(COLUMNS, rows), "", LEGEND, ""] if rows else []


def _differences(part: CandidateFile) -> str:
    told = [f"{each.what} {each.candidate} (reference: {each.reference})" for each in part.differences]
    return "; ".join(["its own config was run", *told] if part.own_config else told) or MISSING


def lines(records: Sequence[Record]) -> list[str]:
    """The terminal's: one for every difference, with whose value was judged by."""
    found = []
    for name, part in _found(records):
        judged = "run with its own config" if part.own_config else "judged with the reference's"
        found += [f"candidate {name}: {each} ({judged})" for each in part.differences]
    return found
