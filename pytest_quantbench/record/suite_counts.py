"""How many models meet each criterion of a recipe: what stands beside the suite's own verdict."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import worst


def outcomes_by_metric(recipe: str, records: Sequence[Record]) -> Mapping[str, Mapping[Outcome, int]]:
    """Metric → outcome → how many of the recipe's models have it as their worst; models without any are not counted."""
    found: dict[str, Counter[Outcome]] = {metric: Counter() for metric in METRICS}
    for record in records:
        for metric in METRICS if record.recipe == recipe else ():
            if (verdict := worst(record, metric)) is not None:
                found[metric][verdict.outcome] += 1
    return found
