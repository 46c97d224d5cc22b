"""T1's roofline: how much of what memory allows was reached, and whether a ratio of speeds can tell of the weights.

One decode step reads every weight once, so tokens per second ≤ bytes read per second / bytes per token. Where a
reference reaches the share s of that bound, it spends the share s of its time on reading; the rest is overhead, which
fewer bytes leave as it is. A recipe that reads the share b of the reference's bytes is then, by reading less, at most
1 / (1 − s (1 − b)) times as fast (Amdahl, AFIPS 1967). Where that is below the limit and the bytes alone, 1 / b, are
not, what keeps the recipe from the limit is overhead: the ratio says nothing of the weights, on whichever side it lies.
"""

from dataclasses import dataclass, replace
from statistics import fmean

from pytest_quantbench.judge import rates
from pytest_quantbench.measures.throughput_samples import ThroughputSamples

BY_OVERHEAD = "bound by overhead, not by reading weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """How fast a model could be by its memory, and how fast it was, in tokens per second."""

    bytes_per_token: int
    bound: float
    rate: float

    @property
    def share(self) -> float:
        """Of the bound. Above 1 where weights stay in caches that reading as many bytes does not find them in."""
        return self.rate / self.bound


def own(samples: ThroughputSamples) -> Roofline | None:
    """Of a model by its own runs, and by how fast memory was read before, between and behind them: what else the
    machine did slowed both. None where they do not tell what they read.
    """
    read = samples.bytes_per_token
    if not read or not samples.read_rates:
        return None
    return Roofline(bytes_per_token=read, bound=reading(samples) / read, rate=rates.mean_rate(samples))


def reading(samples: ThroughputSamples) -> float:
    """Bytes per second over all the times that memory was read, each of which took equally long."""
    return fmean(samples.read_rates)


def of_reference(samples: ThroughputSamples, reference: ThroughputSamples) -> Roofline | None:
    """Of the reference, by the runs that a ratio is of: those between the other's where they are interleaved."""
    between = samples.reference_runs
    return own(replace(reference, runs=between) if between else reference)


def largest_ratio(share: float, read: float) -> float:
    """How many times as fast as the reference one can be by reading the share `read` of its bytes, where it reaches
    this share of its bound.
    """
    return 1 / (1 - min(share, 1.0) * (1 - read)) if share < 1 or read > 0 else float("inf")


def overhead(samples: ThroughputSamples, reference: ThroughputSamples, limit: float) -> str:
    """The sentence that a ratio is bound by overhead; empty where it is not, and where that is not known.

    A recipe that reads too much to meet the limit even at the bound, as one that runs decoded, is not excused
    by that: for it, overhead is what would keep one from the limit that reads nothing.
    """
    mine, other = own(samples), of_reference(samples, reference)
    if mine is None or other is None:
        return ""
    read = mine.bytes_per_token / other.bytes_per_token
    read = read if read * limit <= 1 else 0.0
    most = largest_ratio(other.share, read)
    if most >= limit:
        return ""
    fewer = f"{1 / read:.1f} × fewer bytes" if read else "no weights at all"
    return (
        f"The reference reaches {100 * other.share:.2g} % of what reading its weights allows "
        f"({other.rate:.1f} of {other.bound:,.0f} tokens per second): by reading {fewer}, one is at most "
        f"{most:.2f} × as fast, so the ratio tells of overhead and is not judged by {limit:g} ×."
    )
