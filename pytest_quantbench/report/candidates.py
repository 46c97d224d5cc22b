"""Records of candidates → what a report and a terminal say of their files: whose they are, and what differs."""

from collections.abc import Iterator, Mapping, Sequence

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.candidate_schema import CandidateFile
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import SEVERITY, of_each
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


ANSWERS: Mapping[Outcome, str] = {
    "fail": "fails",
    "anomalous": "better than its original in",
    "undecided": "undecided",
    "pass": "passes",
    "informational": "measured, not judged",
}


def answers(records: Sequence[Record]) -> list[str]:
    """Of every candidate, what its criteria say together: the worst first, and what was not measured."""
    return [f"{name}: {_answer(record)}" for record in records for name, _ in _found([record])]


def _answer(record: Record) -> str:
    found = {name: of_each(record, name) for name in METRICS}
    outcomes = {verdict.outcome for several in found.values() for verdict in several}
    told = []
    for outcome, words in ANSWERS.items():
        names = [
            METRICS[name].label + (f" on {each.of}" if len(several) > 1 else "")
            for name, several in found.items()
            for each in several
            if each.outcome == outcome
        ]
        told += [f"{words}: {', '.join(names)}"] if names else []
    missing = [METRICS[name].label for name, several in found.items() if not several]
    told += [f"not measured: {', '.join(missing)}"] if missing else []
    word = next((outcome for outcome in SEVERITY if outcome in outcomes), "informational").upper()
    return f"{word if word != 'INFORMATIONAL' else 'NOT JUDGED'} ({'; '.join(told)})"


def lines(records: Sequence[Record]) -> list[str]:
    """The terminal's: one for every difference, with whose value was judged by."""
    found = []
    for name, part in _found(records):
        judged = "run with its own config" if part.own_config else "judged with the reference's"
        found += [f"candidate {name}: {each} ({judged})" for each in part.differences]
    return found
