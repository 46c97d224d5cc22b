"""What a record says of T1."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_quantbench.engines.process_memory import Since
from pytest_quantbench.stats.estimates import Interval
from pytest_quantbench.stats.gaps import Spread
from pytest_quantbench.stats.percentiles import Percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """T1. `p95_tps` is the rate that 95 % of the runs reach or exceed. A drift is how much faster (above 0) a fixed
    product ran in a later quarter of the runs than in an earlier one, the largest such change; `probe_change` how much
    faster beside them than beside the reference's, where these did not stand between.
    """

    mean_tps: float
    std_tps: float | None
    p95_tps: float
    runs: int  # of each prompt
    total_runs: int  # of all prompts
    ratio: Interval | None  # over BF16; null where it was suppressed
    prefill_tps: float
    first_token_sec: float
    load_sec: float
    peak_gb: float
    warm_up_tps: float  # of the last warm-up run
    probe_drift: float
    interleaved: bool  # with the reference's runs
    activations: str
    dense_layers: int
    time_sec: float | None = None
    ratio_suppressed: str = ""  # why there is no ratio: what the machine did meanwhile
    reference_probe_drift: float | None = None
    probe_change: float | None = None
    new_tokens: int | None = None  # of each run
    gaps: int | None = None  # between tokens, of all runs
    gap_sec: Mapping[str, Percentile] = field(default_factory=dict)  # "50", "90", "95", "99", "99.9"
    first_token: Interval | None = None  # its mean over the runs, in seconds
    process_peak_gb: float | None = None  # the most resident memory of the whole process
    process_peak_since: Since | None = None  # `measure`: during T1; `process`: since the process began
    bytes_per_token: int | None = None  # of weights that one decode step reads at least
    read_gb_per_sec: float | None = None  # how fast memory was read beside the runs
    bound_tps: float | None = None  # tokens per second that reading the weights allows
    bound_share: float | None = None  # mean_tps over bound_tps
    reference_bound_share: float | None = None  # the reference's, of its own bound
    kernels: Mapping[str, int] = field(default_factory=dict)  # through which the matrices are multiplied: how many
    warm_up_runs: int | None = None  # until the rate was steady
    warm_up_steady: bool | None = None  # whether it was: the last two warm-up runs were as fast as each other
    order_seed: int | None = None  # by which it was drawn in which rounds the reference comes first
    reference_first: int | None = None  # in how many rounds it did
    cpu_share: float | None = None  # processors' time of the middle run over the clock's; null on an accelerator
    reference_cpu_share: float | None = None  # of the interleaved runs
    processors_had: float | None = None  # of what its threads ask for, the middle share; null where it is not told
    gap: Spread | None = None  # between tokens, in seconds: mean, deviation, least, most, count
    gap_ratio: Mapping[str, Percentile] = field(default_factory=dict)  # over BF16: as `gap_sec`, and "mean"
    joules_per_token: float | None = None  # idle not subtracted; null where the platform does not tell
    reference_joules_per_token: float | None = None  # of the interleaved runs
    energy_of: str = ""  # whose energy that is
    prompts: int | None = None  # how many
    prompts_sha256: str = ""  # of their texts
    reserved_gb: float | None = None  # the most that the engine took of the device, with what it keeps for reuse
    resident_gb: float | None = None  # resident memory of the process behind the warm-up
    resident_added_gb: float | None = None  # more than before the model was loaded
    step: str = ""  # how a decode step is run: `captured`, or `module by module`
