"""Records of candidates → what a terminal says of their files: what differs from the original's."""

from collections.abc import Iterator, Sequence

from pytest_quantbench.record.candidate_schema import CandidateFile
from pytest_quantbench.record.schema import Record


def _found(records: Sequence[Record]) -> Iterator[tuple[str, CandidateFile]]:
    """Candidates by the names of their cells."""
    for record in records:
        if record.candidate is not None:
            yield f"{record.model_id}-{record.recipe}", record.candidate


def lines(records: Sequence[Record]) -> list[str]:
    """The terminal's: one for every difference, with whose value was judged by."""
    found = []
    for name, part in _found(records):
        judged = "run with its own config" if part.own_config else "judged with the reference's"
        found += [f"candidate {name}: {each} ({judged})" for each in part.differences]
    return found
