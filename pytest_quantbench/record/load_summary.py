"""Loads → the figures of a record: by stage, cold and warm apart, as ratios to the original's of the same rounds."""

from collections.abc import Sequence
from math import log

from pytest_quantbench.measures.load.samples import STAGES, LoadSamples, OneLoad
from pytest_quantbench.record.load_schema import Load, Loads
from pytest_quantbench.stats import series
from pytest_quantbench.stats.estimates import Interval, Ratio
from pytest_quantbench.stats.spread import Spread

GB = 1e9
MOST_RESIDENT = 0.05  # of the files in memory before a load that is called cold
LEAST_RESIDENT = 0.95  # before one that is called warm


def load(samples: LoadSamples) -> Load:
    """All figures. Loads that were not what they should be (pages stayed that were given back, or had no room) are
    none: `lacks` says so.
    """
    kinds = {"warm": _of(samples, cold=False), "cold": _of(samples, cold=True)}
    lacks = {name: why for name, (_, why) in kinds.items() if why}
    told = [each for each in samples.loads if not each.cold] or samples.loads
    devices = [each.device_bytes for each in told if each.device_bytes is not None]
    return Load(
        loader=samples.loader,
        reference_loader=samples.reference_loader,
        gb=samples.file_bytes / GB,
        reference_gb=samples.reference_file_bytes / GB,
        prompt_tokens=samples.prompt_tokens,
        before_gb=Spread.of([each.before_bytes / GB for each in told]).mean,
        after_gb=Spread.of([each.after_bytes / GB for each in told]).mean,
        added_gb=Spread.of([(each.after_bytes - each.before_bytes) / GB for each in told]),
        peak_gb=max(each.peak_bytes for each in told) / GB,
        device_gb=max(devices) / GB if devices else None,
        cold_by=samples.cold_by,
        lacks=lacks,
        time_sec=samples.seconds,
        **{name: found for name, (found, _) in kinds.items()},
    )


def _of(samples: LoadSamples, *, cold: bool) -> tuple[Loads | None, str]:
    """The figures of one kind, and why there are none, or no ratio."""
    own, others = ([each for each in side if each.cold == cold] for side in (samples.loads, samples.reference_loads))
    if not own:
        return None, samples.cold_lacks
    share, why = _resident(own, cold=cold)
    if why:
        return None, why
    _, why = _resident(others, cold=cold)
    if why:
        others, why = [], f"No ratio to the original's loads. {why}"
    found = Loads(
        first_token_sec=Spread.of([each.total_seconds for each in own]),
        stage_sec={
            stage: Spread.of([each.seconds[stage] for each in own]) for stage in STAGES if stage in own[0].seconds
        },
        gb_per_sec=Spread.of([samples.file_bytes / GB / each.reading_seconds for each in own]),
        resident_share=share,
        reference_sec=Spread.of([each.total_seconds for each in others]) if others else None,
        ratio=_ratio(own, others),
    )
    return found, why


def _ratio(own: Sequence[OneLoad], others: Sequence[OneLoad]) -> Interval | None:
    """Seconds over the original's: the mean over rounds of the logarithm of their ratio, rounds − 1 degrees of freedom.
    None with fewer than two rounds, or where all are alike.
    """
    beside = {each.round: each.total_seconds for each in others}
    logs = {each.round: log(each.total_seconds / beside[each.round]) for each in own if each.round in beside}
    mean = series.mean_of_units(list(logs.values()), list(logs)) if logs else None
    return None if mean is None else Ratio(logarithm=mean).interval()


def _resident(loads: Sequence[OneLoad], *, cold: bool) -> tuple[float | None, str]:
    """How much of the files was in memory, of the load that had it worst, and why such loads are not what they should
    be; empty where they are, or where the system does not tell.
    """
    told = [each.resident_share for each in loads if each.resident_share is not None]
    if not told:
        return None, ""
    if cold and max(told) > MOST_RESIDENT:
        return max(
            told
        ), f"{max(told):.0%} of the files stayed in memory: another process has them mapped or reads them."
    if not cold and min(told) < LEAST_RESIDENT:
        return min(told), f"The system kept {min(told):.0%} of the files in memory: there is no room for all of them."
    return (max if cold else min)(told), ""
