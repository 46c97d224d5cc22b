"""What cells are judged by, as strokes in a chart: each beside the cells that it holds for, and nowhere else."""

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import worst
from pytest_quantbench.report.charts.scales import Axis
from pytest_quantbench.report.charts.scatter import Limit

AXES: dict[str, Literal["x", "y"]] = {
    "size_reduction_percent": "x",
    "throughput_ratio": "x",
    "perplexity_delta": "y",
}
OF = {"size_reduction_percent": "size", "throughput_ratio": "speed", "perplexity_delta": "ΔPPL"}
FORMS = {
    "size_reduction_percent": "at most {:.4g} GB",
    "throughput_ratio": "at least {:g} × the tokens per second of BF16",
    "perplexity_delta": "below {:g}",
}
BEYOND = 0.04  # of the axis along a stroke: so far it reaches beyond its cells


def of(record: Record, metric: str) -> list[float]:
    """The limit of a cell in the unit of its axis, or none: of the verdict that counts. A size is limited in GB."""
    verdict = worst(record, metric)
    if verdict is None or verdict.limit is None:
        return []
    if metric != "size_reduction_percent":
        return [verdict.limit]
    return [] if record.compression is None else [record.compression.original_gb * (1 - verdict.limit / 100)]


def told(record: Record, metrics: Sequence[str]) -> dict[str, str]:
    """The cell's limits of some metrics, by what each is of."""
    found = {metric: of(record, metric) for metric in metrics}
    return {f"limit of {OF[metric]}": FORMS[metric].format(*value) for metric, value in found.items() if value}


def strokes(
    metric: str, cells: Sequence[tuple[Record, float, float]], x: Axis, y: Axis, factor: float = 1.0
) -> list[Limit]:
    """A stroke for every limit of the cells (record, x, y), along those of the levels that it holds for. `factor`: from
    a limit's unit to its axis's.
    """
    axis = AXES[metric]
    along = y if axis == "x" else x
    judged = [(of(record, metric), record, at_y if axis == "x" else at_x) for record, at_x, at_y in cells]
    found = []
    keyed = sorted(((record.level, value[0], at) for value, record, at in judged if value))
    for (level, value), group in groupby(keyed, key=lambda each: each[:2]):
        places = [along.at(along.within(at)) for _, _, at in group]
        begin, end = along.value(max(0.0, min(places) - BEYOND)), along.value(min(1.0, max(places) + BEYOND))
        tells = f"{level}: {OF[metric]} {FORMS[metric].format(value)}"
        found.append(Limit(axis=axis, value=factor * value, begin=begin, end=end, tells=tells))
    return found
