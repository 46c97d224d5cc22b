"""T1's rates and a sweep's: what they are, and whether two models' rates may be compared at all.

What the machine did meanwhile is told by three things: a fixed matrix product between the runs, how fast memory is read
in front of each, and how much of the processors' time could be had in front of each, and each run had. Where one of
them changed by more than a limit, or the reference's were others (they may be days apart, as kept samples are), a ratio
of the rates says as much of the machine as of the models, and there is none. Runs that were interleaved are no
exception: what slows both does not slow both by the same factor.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pytest_quantbench.measures.throughput_samples import Run, ThroughputSamples
from pytest_quantbench.stats import speeds
from pytest_quantbench.stats.estimates import Ratio

MOST_DRIFT = 0.05  # of the machine's speed, beyond which runs of different times are not compared
STRETCHES = 4  # of a session, whose middle probes are held against each other
MOST_READ_CHANGE = 0.2  # of how fast memory was read, over the middle four fifths of the reads
MOST_SHARE_CHANGE = 0.2  # of the processors' time that runs had, over the middle four fifths of the runs
# Of its threads' time, which the middle run has to have had; two threads on two quiet cores had 0.85 to 0.9.
LEAST_CPU_SHARE = 0.8
ELSE = "other load, or a limit, had it else"


class WatchedRun(Protocol):
    """A run that was timed, of a prompt by its number."""

    @property
    def prompt(self) -> int:
        """Its number."""

    @property
    def cpu_share(self) -> float | None:
        """Processors' seconds over the clock's; None where an accelerator computes."""


class Watched(Protocol):
    """Runs of a model, and of its reference where they were interleaved, with what the machine did meanwhile: samples
    of T1, and those of one point of a sweep, which say what each of these is.
    """

    @property
    def runs(self) -> Sequence[WatchedRun]:
        """In the order of time."""

    @property
    def reference_runs(self) -> Sequence[WatchedRun]:
        """Those that stood beside; none where there are none."""

    @property
    def probes_per_second(self) -> Sequence[float]:
        """A fixed matrix product, between runs."""

    @property
    def read_rates(self) -> Sequence[float]:
        """Bytes per second of the memory, between runs."""

    @property
    def reference_read_rates(self) -> Sequence[float]:
        """The same of as many bytes as a step of the reference reads."""

    @property
    def processors_had(self) -> Sequence[float]:
        """Of what so many threads ask for, in front of runs."""

    @property
    def threads(self) -> int | None:
        """On which the engine computes; None where it does not tell."""


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


def drift(samples: Watched, reference: Watched | None) -> Drift:
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


def probe_drift(samples: Watched) -> float:
    """How much faster a fixed product ran in a later quarter of T1 than in an earlier one, as a share: the largest."""
    return largest_change(samples.probes_per_second)


def is_drifting(change: float) -> bool:
    """Whether the machine's own speed changed by so much, as a share, that rates measured meanwhile mean nothing."""
    return _size(change) > math.log1p(MOST_DRIFT)


def _size(change: float) -> float:
    return abs(math.log1p(change))


def suppressed(samples: Watched, reference: Watched) -> str:
    """Why the rates of both are not compared; empty where they are."""
    change, when = drift(samples, reference).worst
    if is_drifting(change):
        return f"the machine's own speed changed by {change:+.0%} {when}"
    beside = _of_reference(samples) if samples.reference_runs else seen(reference)
    return disturbed((seen(samples), beside))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen beside the runs of one model, as far as it is told."""

    reads: Sequence[float]  # bytes per second of the memory
    had: Sequence[float]  # shares of what its threads asked for
    shares: Sequence[tuple[int, float]]  # of every run its prompt, and the processors' time over the clock's
    threads: int | None


def seen(samples: Watched) -> Seen:
    """Beside the model's own runs."""
    reads, had, threads = samples.read_rates, samples.processors_had, samples.threads
    return Seen(reads=reads, had=had, shares=_with_prompts(samples.runs), threads=threads)


def _of_reference(samples: Watched) -> Seen:
    """Beside the reference's interleaved runs."""
    shares = _with_prompts(samples.reference_runs)
    return Seen(reads=samples.reference_read_rates, had=(), shares=shares, threads=samples.threads)


def _with_prompts(runs: Sequence[WatchedRun]) -> list[tuple[int, float]]:
    return [(run.prompt, run.cpu_share) for run in runs if run.cpu_share is not None]


def disturbed(sides: Sequence[Seen]) -> str:
    """Why rates of these are not compared, for what else the machine did; empty where they are."""
    low, high = _widest(*(side.reads for side in sides))
    if high > (1 + MOST_READ_CHANGE) * low:
        return f"memory was read at {low / 1e9:.3g} to {high / 1e9:.3g} GB/s meanwhile: other load took bandwidth"
    return _waited(sides)


def _waited(sides: Sequence[Seen]) -> str:
    """That runs waited for processors: all the time, as what could be had in front of them tells, and of one thread
    its own clock; or some more than others.
    """
    least = _least(side.had for side in sides)
    if least < LEAST_CPU_SHARE:
        return f"only {least:.0%} of the processors' time that its threads ask for was to be had: {ELSE}"
    least = _least([share for _, share in side.shares] for side in sides if side.threads == 1)
    if least < LEAST_CPU_SHARE:
        return f"its runs or the reference's had a processor for {least:.0%} of their time: {ELSE}"
    low, high = _widest(*(side.had for side in sides), *(_by_prompt(side.shares) for side in sides))
    if high <= (1 + MOST_SHARE_CHANGE) * low:
        return ""
    return f"runs had {low:.0%} to {high:.0%} of the processors' time that is usual for them: other load came and went"


def _least(told: Iterable[Sequence[float]]) -> float:
    """The smallest of the middle figures; 1 where nothing is told."""
    return min((float(np.median(shares)) for shares in told if len(shares)), default=1.0)


def _by_prompt(shares: Sequence[tuple[int, float]]) -> list[float]:
    """What each run had of a processor's time, over the middle run of its prompt: several threads read a long prompt
    together, and have less to share in every step behind it.
    """
    of_prompt = {asked: [share for prompt, share in shares if prompt == asked] for asked, _ in shares}
    return [share / max(float(np.median(of_prompt[prompt])), 1e-12) for prompt, share in shares]


def _widest(*told: Sequence[float]) -> tuple[float, float]:
    """The middle four fifths of the figures that differ most in themselves."""
    ends = [np.percentile(figures, (10, 90)) for figures in told if len(figures)]
    low, high = max(ends, key=lambda each: float(each[1] / max(each[0], 1e-12)), default=(1.0, 1.0))
    return float(low), float(high)


def cpu_share(runs: Sequence[WatchedRun]) -> float | None:
    """The processors' time that the middle run had, in processors; None where nothing tells."""
    found = [share for _, share in _with_prompts(runs)]
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
