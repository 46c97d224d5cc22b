"""What a record says of a candidate's files on the runtime that they are made for."""

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_quantbench.stats.estimates import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineError:
    """What the runtime's arithmetic adds to the decoded weights in float32, on the same tokens: its losses minus those
    of the walk, in nats per token. `same_top` is the share of positions with the same likeliest token.
    """

    mean_nats: float
    interval: Interval | None  # of the mean, paired
    rms_nats: float
    largest_nats: float  # of any token, without its sign
    same_top: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class FileError:
    """What the file lost: the losses of its decoded weights in float32 minus the reference's, in nats per token."""

    mean_nats: float
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast the runtime is. Rates are tokens per second: `reading_tps` of T2's windows, logits included,
    `prefill_tps` of T1's prompts, `decode_tps` behind them, the mean of `runs` generations. `gap_sec` has percentiles
    ("50", "90", "95", "99") of the time from one token to the next; `load_sec` is the mean of `load_secs`.
    """

    load_sec: float
    load_secs: tuple[float, ...]
    reading_tps: float
    prefill_tps: float
    first_token_sec: float
    decode_tps: float
    decode_tps_std: float | None  # between runs
    gap_sec: Mapping[str, float]
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A candidate's files by their own runtime, on the first `tokens` that T2 scores. Not judged.

    `kl_nats` is the mean divergence of what is deployed from the reference, `walk_kl_nats` that of the decoded weights
    in float32 on the same tokens. GB are 10⁹ bytes: `peak_gb` the most that the process ever had, pages of the mapped
    file included, `before_gb` the most before it loaded.
    """

    runtime: str
    version: str
    how: str  # it was run: threads, types, processor
    tokens: int
    ppl: float | None
    walk_ppl: float | None
    bf16_ppl: float | None
    file_error: FileError
    engine_error: EngineError
    kl_nats: float
    walk_kl_nats: float
    speed: Speed
    peak_gb: float
    before_gb: float
