"""What a record says of loading: how long fresh processes took from the files to the first token, and what it added."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.spread import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """The warm loads, or the cold ones. Seconds from the birth of the process to its first token, and of each stage:
    `start` (the process and its libraries), `opening` (config, headers, the model without weights), `tokenizer`,
    `weights` (until they are in memory as they are multiplied), `first token` of a short prompt.

    `gb_per_sec`: the files over the seconds of opening, weights and first token. `resident_share`: how much of the
    files was in memory before, at most of cold loads and at least of warm ones.
    """

    first_token_sec: Spread
    stage_sec: Mapping[str, Spread]
    gb_per_sec: Spread
    resident_share: float | None
    reference_sec: Spread | None = None  # of the original, interleaved; None where its loads were not such either
    ratio: Interval | None = None  # seconds over those of the original, paired by round


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Not judged. GB are 10⁹ bytes. Memory is that of warm loads (of all where there are none): before a file was
    opened, behind the first token, the difference, and the most; `device_gb` of the device.
    """

    loader: str
    reference_loader: str
    gb: float  # of the files that are read
    reference_gb: float
    prompt_tokens: int
    before_gb: float
    after_gb: float
    added_gb: Spread
    peak_gb: float
    device_gb: float | None = None
    warm: Loads | None = None
    cold: Loads | None = None
    cold_by: str = ""  # `posix_fadvise` of the files, or `drop_caches` of all
    lacks: Mapping[str, str] = field(default_factory=dict)  # why there is no `cold` or no `warm`, or no ratio of theirs
    time_sec: float | None = None  # of all loads together
