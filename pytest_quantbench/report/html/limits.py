"""The limits that the cells were judged by: a line for each level, a column for each criterion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog.recipes import REFERENCE
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import shown_metrics
from pytest_quantbench.report.html.typeset import asked
from pytest_quantbench.report.tables import MISSING

NAMES: Mapping[str, str] = {
    "size_reduction_percent": "smaller by",
    "perplexity_delta": "Δ perplexity",
    "accuracy_drop_points": "accuracy drop",
    "throughput_ratio": "speed-up",
    "depth_perplexity_delta": "Δ perplexity by depth",
    "retrieval_drop_points": "retrieval drop",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """One line: a level, and what it asks of each metric, in the metrics' order."""

    level: str
    asked: Sequence[str]


def titles(records: Sequence[Record]) -> list[str]:
    """What the columns are called."""
    return [NAMES[metric] for metric in shown_metrics(records)]


def limits(records: Sequence[Record]) -> list[Limits]:
    """A line for each level that has cells beside the references."""
    compared = [record for record in records if record.recipe != REFERENCE.id]
    metrics = shown_metrics(records)
    return [
        Limits(level=level, asked=[_asked(metric, [r for r in compared if r.level == level]) for metric in metrics])
        for level in dict.fromkeys(record.level for record in compared)
    ]


def _asked(metric: str, records: Sequence[Record]) -> str:
    """`< 2.5`; several where texts, tasks or cells have their own."""
    found = [verdict for record in records for verdict in record.verdicts if verdict.metric == metric]
    told = dict.fromkeys(asked(metric, verdict.limit) for verdict in found if verdict.limit is not None)
    return ", ".join(told) or ("no limit" if found else MISSING)
