"""What a record says of a sweep, T1 in full."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.gaps import Spread
from pytest_quantbench.stats.percentiles import Percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One point of a sweep. Rates are tokens per second: of `decode` those of its steps, all texts together; of
    `prefill` those of the prompt; of `end to end` and `requests` all new tokens over all of the time.
    """

    kind: str  # `decode`, `prefill`, `end to end`, `requests`
    rows: int  # texts that go on together
    depth: int  # tokens of a prompt; the most, where they are of unlike lengths
    new_tokens: int  # of each text
    skipped: str = ""  # why it was not measured; all that follows is null then
    step: str = ""  # how a decode step was run: `captured`, or `module by module`
    rate: Spread | None = None  # mean, standard deviation, least, most and count of the runs
    ratio: Interval | None = None  # of rates, over BF16; null where it was suppressed
    ratio_suppressed: str = ""  # why: the machine's own speed changed
    cpu_share: float | None = None  # processors' time of the middle run over the clock's; null on an accelerator
    reference_cpu_share: float | None = None  # of the interleaved runs
    read_gb_per_sec: float | None = None  # how fast memory was read between the pairs, in the mean
    joules_per_run: float | None = None  # prompts and what the machine takes idle included; null where nothing tells
    reference_joules_per_run: float | None = None  # of the interleaved runs
    probe_drift: float | None = None  # the largest change of a fixed product between two times of the point, as a share
    first_token_sec: Spread | None = None  # of the runs; of `requests`, of each request
    first_token_ratio: Interval | None = None  # over BF16: below 1 is faster
    first_token_percentiles: Mapping[str, Percentile] = field(default_factory=dict)  # of requests: "50", "99"
    gap_sec: Spread | None = None  # between tokens of a text
    gap_percentiles: Mapping[str, Percentile] = field(default_factory=dict)  # "50", "90", "95", "99", "99.9"
    gap_ratios: Mapping[str, Percentile] = field(default_factory=dict)  # the same over BF16: below 1 is faster
    left_out: Mapping[str, str] = field(default_factory=dict)  # percentiles that are not told: why, by the percent
    bytes_per_step: int | None = None  # that a decode step reads at least: weights, and keys and values at that depth
    bound_tps: float | None = None  # tokens per second that reading these allows
    bound_share: float | None = None  # the mean rate over that
    reference_first: tuple[bool, ...] = ()  # of each pair of runs: whether BF16 came first, by chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """All points of a sweep, in the order in which they were measured."""

    points: tuple[SweepPoint, ...]
    interleaved: bool  # with the reference's runs
    seed: int  # of the order of runs, the lengths of requests, and of what was drawn
    temperature: float  # of `end to end`
    activations: str
    bytes_per_token: int  # of weights that one decode step reads at least
    cache_bytes_per_token: int  # of keys and values, for each token of each text
    read_gb_per_sec: float | None  # how fast memory was read between the pairs of all points, in the mean
    time_sec: float  # that all points took, of earlier sessions too
