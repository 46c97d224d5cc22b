"""T1's roofline: how much of what memory allows was reached, and whether a ratio of speeds can tell of the weights.

One decode step reads every weight once, so tokens per second ≤ bytes read per second / bytes per token. Where a
reference reaches the share s of that bound, it spends the share s of its time on reading; the rest is overhead, which
fewer bytes leave as it is. A recipe that reads the share b of the reference's bytes is then, by reading less, at most
1 / (1 − s (1 − b)) times as fast (Amdahl, AFIPS 1967). Where that is below the limit and the bytes alone, 1 / b, are
not, what keeps the recipe from the limit is overhead, and a ratio between 1 and the limit says nothing of the weights.
A recipe that is slower than its reference is so by itself: overhead that both have slows nothing down.
"""

from dataclasses import dataclass

from pytest_quantbench.judge import rates
from pytest_quantbench.measures.throughput_samples import Run, ThroughputSamples
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import ALPHA, Ratio

BY_OVERHEAD = "bound by overhead, not by reading weights"
SURE = ALPHA / 5  # that overhead is what it is said to be: at five looks together as sure as a verdict
AS_FAST = 0.9  # of the reference's speed: what is slower than that is slower


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """How fast a model could be by its memory, and how fast it was, in tokens per second. `share` of the bound was
    reached: above 1 where weights stay in caches that reading as many bytes does not find them in.
    """

    bytes_per_token: int
    bound: float
    rate: float
    reached: Ratio  # the share, with the error that the spread of the runs and of the reads shows

    @property
    def share(self) -> float:
        """The estimate alone."""
        return self.reached.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """That a ratio is bound by overhead, in a sentence; not `certain` where it may be so."""

    certain: bool
    sentence: str


def own(samples: ThroughputSamples) -> Roofline | None:
    """Of a model by its own runs, and by how fast memory was read before, between and behind them: what else the
    machine did slowed both. None where they do not tell what they read.
    """
    return _of(samples.runs, samples.bytes_per_token, samples.read_rates)


def of_reference(samples: ThroughputSamples, reference: ThroughputSamples) -> Roofline | None:
    """Of the reference, by the runs that a ratio is of and the reads beside these very runs: those between the other's
    where they are interleaved. The reference's own may be of another day.
    """
    if samples.reference_runs:
        return _of(samples.reference_runs, samples.reference_bytes_per_token, samples.reference_read_rates)
    return own(reference)


def _of(runs: tuple[Run, ...], read_bytes: int | None, reads: tuple[float, ...]) -> Roofline | None:
    if not read_bytes or len(reads) < 2:
        return None
    speeds = [run.tokens_per_second for run in runs]
    bounds = [read / read_bytes for read in reads]
    return Roofline(
        bytes_per_token=read_bytes,
        bound=sum(bounds) / len(bounds),
        rate=sum(speeds) / len(speeds),
        reached=series.quotient(speeds, [run.prompt for run in runs], bounds),
    )


def largest_ratio(share: float, read: float) -> float:
    """How many times as fast as the reference one can be by reading the share `read` of its bytes, where it reaches
    this share of its bound.
    """
    return 1 / (1 - min(share, 1.0) * (1 - read)) if share < 1 or read > 0 else float("inf")


def overhead(samples: ThroughputSamples, reference: ThroughputSamples, limit: float) -> Overhead | None:
    """Whether the ratio is bound by overhead; None where it is not, and where that is not known.

    It is certain where even the upper end of the reference's share keeps one from the limit, and the whole ratio lies
    between that of one that is about as fast as the reference and the limit. A recipe that reads too much to meet the
    limit even at the bound, as one that runs decoded does, is excused only where reading nothing would not help.
    """
    mine, other, ratio = own(samples), of_reference(samples, reference), rates.ratio(samples, reference)
    if mine is None or other is None or ratio is None:
        return None
    read = mine.bytes_per_token / other.bytes_per_token
    read = read if read * limit <= 1 else 0.0
    share, found = other.reached.interval(SURE), ratio.interval(SURE)
    least, most = (largest_ratio(end, read) for end in (share.low, share.high))
    if least >= limit or found.high < AS_FAST or found.low > limit:
        return None
    certain = most < limit and found.low >= AS_FAST and found.high <= limit
    return Overhead(certain=certain, sentence=_sentence(other, read, limit, certain=certain))


def _sentence(other: Roofline, read: float, limit: float, *, certain: bool) -> str:
    fewer = f"{1 / read:.1f} × fewer bytes" if read else "no weights at all"
    share, most = (other.reached.interval(SURE), largest_ratio(other.share, read))
    told = (
        f"tells of overhead and is not judged by {limit:g} ×"
        if certain
        else f"may tell of overhead alone: that share may be {100 * share.low:.2g} to {100 * share.high:.2g} %"
    )
    return (
        f"The reference reaches {100 * other.share:.2g} % of what reading its weights allows "
        f"({other.rate:.1f} of {other.bound:,.0f} tokens per second): by reading {fewer}, one is at most "
        f"{most:.2f} × as fast, so the ratio {told}."
    )
