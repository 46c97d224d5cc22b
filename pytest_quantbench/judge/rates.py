"""T1's rates: what they are, and whether two models' rates may be compared at all.

A fixed matrix product is timed before and after the runs of a model. Where its speed is another one after the runs
than before, of either model, or another one beside the one's runs than beside the other's (they may be days apart, as
kept samples are), the machine did something else meanwhile and a ratio of the rates says nothing of the models.
"""

import math
from dataclasses import dataclass

import numpy as np

from pytest_quantbench.measures.throughput_samples import ThroughputSamples
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import Ratio

MOST_DRIFT = 0.05  # of the machine's speed, beyond which runs of different times are not compared
MOST_READ_CHANGE = 0.2  # of how fast memory was read, over the middle four fifths of the reads


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Changes of the machine's own speed, as shares: 0.1 is a tenth faster. None: there is no reference."""

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
    if reference is None:
        return Drift(own=probe_drift(samples), reference=None, between=None)
    changes = [mine / other - 1 for mine in samples.probes_per_second for other in reference.probes_per_second]
    return Drift(own=probe_drift(samples), reference=probe_drift(reference), between=max(changes, key=_size))


def probe_drift(samples: ThroughputSamples) -> float:
    """How much faster a fixed product ran after T1 than before, as a share."""
    before, after = samples.probes_per_second
    return after / before - 1


def is_drifting(change: float) -> bool:
    """Whether the machine's own speed changed by so much, as a share, that rates measured meanwhile mean nothing."""
    return _size(change) > math.log1p(MOST_DRIFT)


def _size(change: float) -> float:
    return abs(math.log1p(change))


def suppressed(samples: ThroughputSamples, reference: ThroughputSamples) -> str:
    """Why the rates of both are not compared; empty where they are. Runs that were interleaved were slowed alike."""
    change, when = drift(samples, reference).worst
    if samples.reference_runs or not is_drifting(change):
        return ""
    return f"the machine's own speed changed by {change:+.0%} {when}"


def unsteady(samples: ThroughputSamples, reference: ThroughputSamples) -> str:
    """The sentence that other load took bandwidth while both ran, of a changing size; empty where it did not.

    Interleaving does not help against that: such load slows a model the more, the more it waits for memory.
    """
    beside = samples.reference_read_rates if samples.reference_runs else reference.read_rates
    told = [np.percentile(reads, (10, 90)) for reads in (samples.read_rates, beside) if reads]
    low, high = max(told, key=lambda ends: float(ends[1] / ends[0]), default=(1.0, 1.0))
    if high <= (1 + MOST_READ_CHANGE) * low:
        return ""
    return (
        f"Memory was read at {low / 1e9:.3g} to {high / 1e9:.3g} GB/s meanwhile: other load took bandwidth, which "
        f"slows most what reads most, so the ratio is left open."
    )


def ratio(samples: ThroughputSamples, reference: ThroughputSamples) -> Ratio | None:
    """The speed ratio, against interleaved runs of the reference where there are any; None where it is suppressed, or
    nothing is known of its error.
    """
    if suppressed(samples, reference):
        return None
    baseline = samples.reference_runs or reference.runs
    return series.rate_ratio(
        [(run.prompt, run.tokens_per_second) for run in baseline],
        [(run.prompt, run.tokens_per_second) for run in samples.runs],
    )


def mean_rate(samples: ThroughputSamples) -> float:
    """Mean output tokens per second over the runs, warm-up left out."""
    return float(np.mean([run.tokens_per_second for run in samples.runs]))
