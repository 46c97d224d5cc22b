"""What is known of a candidate before it is walked: where it comes from, that it is its reference's, what differs."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

UNSAID = "not set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that the candidate's files say otherwise than the reference's, both as text."""

    what: str
    candidate: str
    reference: str

    def __str__(self) -> str:
        return f"{self.what}: {self.candidate}, the reference's {self.reference}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """That a candidate is its reference, quantized: what was compared, and all that may differ and does.

    `cosines` of sampled rows of decoded matrices with the original's, by their paths; `tokens`: how many were compared
    by their texts, None where the files bring no tokenizer.
    """

    cosines: Mapping[str, float]
    tokens: int | None
    differences: tuple[Difference, ...] = ()

    @property
    def median_cosine(self) -> float:
        """The usual one."""
        return statistics.median(self.cosines.values())

    @property
    def least_cosine(self) -> float:
        """The one that is furthest from the original."""
        return min(self.cosines.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFacts:
    """Whose file it is and what it is compared with. `files` maps each of the weights' to its SHA-256; `base_model` is
    the original that the files themselves name; `own_config`: it is run with its own positions, epsilon and windows
    instead of the reference's.
    """

    name: str
    source: str
    format: str
    files: Mapping[str, str]
    bits_per_weight: float
    base_model: str | None
    identity: Identity
    own_config: bool = False
