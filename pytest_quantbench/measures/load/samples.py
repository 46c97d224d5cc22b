"""What is kept of a model that was loaded again and again: each load by itself, in the order in which they came."""

from collections.abc import Mapping
from dataclasses import dataclass

# What a load is made of, in this order. A runtime that opens and reads in one go has no `opening`, and its tokenizer
# is in the file.
STAGES = ("start", "opening", "tokenizer", "weights", "first token")


@dataclass(frozen=True, slots=True, kw_only=True)
class OneLoad:
    """A fresh process that loaded a model and gave its first token. `seconds` by stage: `start` from its birth until it
    is asked, and all that it imports then or later; `opening` config, headers and the model without weights;
    `tokenizer`; `weights` until they are in memory as they are multiplied; `first token` of a short prompt, with all
    that is made when it is first needed.

    `resident_share`: how much of the files the system had in memory before, from 0 to 1; None where it does not tell.
    Memory in bytes: of the process with its libraries before it opened a file, behind the first token, and at most; of
    the device at most, None on a CPU.
    """

    round: int
    cold: bool
    seconds: Mapping[str, float]
    resident_share: float | None
    before_bytes: int
    after_bytes: int
    peak_bytes: int
    device_bytes: int | None = None

    @property
    def total_seconds(self) -> float:
        """From the birth of the process to the first token."""
        return sum(self.seconds.values())

    @property
    def reading_seconds(self) -> float:
        """Without what no file of the model has a part in."""
        return sum(seconds for stage, seconds in self.seconds.items() if stage not in ("start", "tokenizer"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSamples:
    """`loads` of the cell's own files, `file_bytes` in all, by `loader`; `reference_loads` are those of the original's,
    interleaved with them, none of which there are where this is the reference. Those of the same round belong together.

    `cold_by`: how pages were given back before a cold load; `cold_lacks`: why there are none, in a sentence. `seconds`:
    of all loads together.
    """

    loader: str
    file_bytes: int
    prompt_tokens: int
    loads: tuple[OneLoad, ...]
    reference_loader: str = ""
    reference_file_bytes: int = 0
    reference_loads: tuple[OneLoad, ...] = ()
    cold_by: str = ""
    cold_lacks: str = ""
    seconds: float = 0.0
