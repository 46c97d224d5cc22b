"""T1's rates: what they are, and whether two models' rates may be compared at all.

What the machine did meanwhile is told by three things: a fixed matrix product between the runs, how fast memory is read
in front of each, and how much of the processors' time could be had in front of each, and each run had. Where one of
them changed by more than a limit, or the reference's were others (they may be days apart, as kept samples are), a ratio
of the rates says as much of the machine as of the models, and there is none. Runs that were interleaved are no
exception: what slows both does not slow both by the same factor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_quantbench.measures.throughput_samples import Run, ThroughputSamples
from pytest_quantbench.stats import speeds
from pytest_quantbench.stats.estimates import Ratio

MOST_DRIFT = 0.05  # of the machine's speed, beyond which runs of different times are not compared
STRETCHES = 4  # of a session, whose middle probes are held against each other
MOST_READ_CHANGE = 0.2  # of how fast memory was read, over the middle four fifths of the reads
MOST_SHARE_CHANGE = 0.2  # of the processors' time that runs had, over the middle four fifths of the runs
LEAST_CPU_SHARE = 0.9  # of its threads' time, which the middle run has to have had
ELSE = "other load, or a limit, had it else"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Changes of the machine's own speed, as shares: 0.1 is a tenth faster. None: there is no reference, or its runs
    stood between these.
    """

    own: float  # during the runs
    reference: float | None  # during the reference's
    between: float | None  # from the reference's runs to these: the largest of its probes against the largest of these

    @property
    def worst(self) -> tuple[float, str]:
        """The largest change, and when it was. Half and double the speed are equally large."""
        told = {
            "while it ran": self.own,
            "while the reference ran": self.reference,
            "from the reference's runs to its own": self.between,
        }
        when, change = max(
            ((when, change) for when, change in told.items() if change is not None), key=lambda each: _size(each[1])
        )
        return change, when


def drift(samples: ThroughputSamples, reference: ThroughputSamples | None) -> Drift:
    """How the machine's own speed changed, by the probes of both."""
    if reference is None or samples.reference_runs:
        return Drift(own=probe_drift(samples), reference=None, between=None)
    between = largest_change(reference.probes_per_second, samples.probes_per_second)
    return Drift(own=probe_drift(samples), reference=probe_drift(reference), between=between)


def levels(probes: Sequence[float]) -> list[float]:
    """The middle probe of each quarter of a session, which a single odd one does not move; of few probes, each."""
    parts = np.array_split(np.array(probes), min(STRETCHES, len(probes)))
    return [float(np.median(part)) for part in parts]


def largest_change(earlier: Sequence[float], later: Sequence[float] = ()) -> float:
    """How much faster a fixed product ran in a later quarter of its times than in an earlier one, as a share: the
    largest change, of which half and double the speed are equally large. `later`: times of another measurement, against
    which those of the first are held instead.
    """
    before, behind = levels(earlier), levels(later) if later else []
    pairs = [(one, other) for one in before for other in behind]
    pairs = pairs or [(one, other) for place, one in enumerate(before) for other in before[place + 1 :]]
    return max((other / one - 1 for one, other in pairs), key=_size, default=0.0)


def probe_drift(samples: ThroughputSamples) -> float:
    """How much faster a fixed product ran in a later quarter of T1 than in an earlier one, as a share: the largest."""
    return largest_change(samples.probes_per_second)


def is_drifting(change: float) -> bool:
    """Whether the machine's own speed changed by so much, as a share, that rates measured meanwhile mean nothing."""
    return _size(change) > math.log1p(MOST_DRIFT)


def _size(change: float) -> float:
    return abs(math.log1p(change))


def suppressed(samples: ThroughputSamples, reference: ThroughputSamples) -> str:
    """Why the rates of both are not compared; empty where they are."""
    change, when = drift(samples, reference).worst
    if is_drifting(change):
        return f"the machine's own speed changed by {change:+.0%} {when}"
    return _reads(samples, reference) or _shares(samples, reference)


def _reads(samples: ThroughputSamples, reference: ThroughputSamples) -> str:
    """That other load took bandwidth while both ran, of a changing size."""
    beside = samples.reference_read_rates if samples.reference_runs else reference.read_rates
    low, high = _widest(samples.read_rates, beside)
    if high <= (1 + MOST_READ_CHANGE) * low:
        return ""
    return f"memory was read at {low / 1e9:.3g} to {high / 1e9:.3g} GB/s meanwhile: other load took bandwidth"


def _shares(samples: ThroughputSamples, reference: ThroughputSamples) -> str:
    """That runs waited for processors: all the time, as what could be had in front of them tells, and of one thread
    its own clock; or some more than others.
    """
    beside = reference.runs if not samples.reference_runs else samples.reference_runs
    had = [samples.processors_had, () if samples.reference_runs else reference.processors_had]
    least = _least(had)
    if least < LEAST_CPU_SHARE:
        return f"only {least:.0%} of the processors' time that its threads ask for was to be had: {ELSE}"
    least = _least([_cpu_shares(samples.runs), _cpu_shares(beside)]) if samples.threads == 1 else 1.0
    if least < LEAST_CPU_SHARE:
        return f"its runs or the reference's had a processor for {least:.0%} of their time: {ELSE}"
    low, high = _widest(*had, *map(_by_prompt, (samples.runs, beside)))
    if high <= (1 + MOST_SHARE_CHANGE) * low:
        return ""
    return f"runs had {low:.0%} to {high:.0%} of the processors' time that is usual for them: other load came and went"


def _least(told: Sequence[Sequence[float]]) -> float:
    """The smaller of the middle figures; 1 where nothing is told."""
    return min((float(np.median(shares)) for shares in told if shares), default=1.0)


def _by_prompt(runs: Sequence[Run]) -> list[float]:
    """What each run had of a processor's time, over the middle run of its prompt: several threads read a long prompt
    together, and have less to share in every step behind it.
    """
    return [
        share / max(float(np.median(same)), 1e-12)
        for prompt in dict.fromkeys(run.prompt for run in runs)
        for same in [_cpu_shares([run for run in runs if run.prompt == prompt])]
        for share in same
    ]


def _widest(*told: Sequence[float]) -> tuple[float, float]:
    """The middle four fifths of the figures that differ most in themselves."""
    ends = [np.percentile(figures, (10, 90)) for figures in told if figures]
    low, high = max(ends, key=lambda each: float(each[1] / max(each[0], 1e-12)), default=(1.0, 1.0))
    return float(low), float(high)


def _cpu_shares(runs: Sequence[Run]) -> list[float]:
    return [run.cpu_share for run in runs if run.cpu_share is not None]


def cpu_share(runs: Sequence[Run]) -> float | None:
    """The processors' time that the middle run had, in processors; None where nothing tells."""
    found = _cpu_shares(runs)
    return float(np.median(found)) if found else None


def ratio(samples: ThroughputSamples, reference: ThroughputSamples) -> Ratio | None:
    """The speed ratio, against interleaved runs of the reference where there are any; None where it is suppressed, or
    nothing is known of its error.
    """
    if suppressed(samples, reference):
        return None
    if samples.reference_runs:
        return speeds.paired_ratio(_pairs(samples.reference_runs), _pairs(samples.runs))
    between = drift(samples, reference).between
    return speeds.unpaired_ratio(_pairs(reference.runs), _pairs(samples.runs), drift=between or 0.0)


def _pairs(runs: Sequence[Run]) -> list[tuple[int, float]]:
    return [(run.prompt, run.tokens_per_second) for run in runs]


def mean_rate(samples: ThroughputSamples) -> float:
    """Mean output tokens per second over the runs, warm-up left out."""
    return float(np.mean([run.tokens_per_second for run in samples.runs]))
