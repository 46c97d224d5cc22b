"""What a record keeps of a candidate: whose file it is, what ties it to its reference, and what differs from that."""

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_quantbench.compress.candidate_facts import CandidateFacts, Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFile:
    """A model that somebody else quantized. Cosines are of sampled rows of decoded matrices with the original's."""

    name: str
    source: str  # as it was given
    format: str
    files: Mapping[str, str]  # of the weights: SHA-256 by name
    stored_bits_per_weight: float  # of the encoded tensors
    base_model: str | None  # the original that its files name
    own_config: bool  # run with its own positions, epsilon and windows; else with the reference's
    compared_tokens: int | None  # of the tokenizer; null: the files have none
    median_cosine: float
    least_cosine: float
    least_cosine_tensor: str
    differences: tuple[Difference, ...]


def candidate_file(facts: CandidateFacts | None) -> CandidateFile | None:
    """The record's part; None of a cell that is no candidate's."""
    if facts is None:
        return None
    found = facts.identity
    return CandidateFile(
        name=facts.name,
        source=facts.source,
        format=facts.format,
        files=dict(facts.files),
        stored_bits_per_weight=facts.bits_per_weight,
        base_model=facts.base_model,
        own_config=facts.own_config,
        compared_tokens=found.tokens,
        median_cosine=found.median_cosine,
        least_cosine=found.least_cosine,
        least_cosine_tensor=min(found.cosines, key=lambda path: found.cosines[path]),
        differences=found.differences,
    )
