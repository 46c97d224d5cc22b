"""Every judged criterion: the limit, the verdict and how sure it is, in words that need no statistics."""

from collections.abc import Mapping, Sequence

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import Criterion, holm_outcomes
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.markdown.figures import TIED, ranged
from pytest_quantbench.report.markdown.summary_tables import bound
from pytest_quantbench.report.phrases import criterion
from pytest_quantbench.report.tables import MARKS, MISSING, significant
from pytest_quantbench.stats.estimates import Interval

COLUMNS = (
    "Cell",
    "Criterion",
    "Limit",
    "Found",
    "Verdict",
    "All at once",
    "Luck if good",
    "Luck if bad",
    "Judged on",
    "Evaluated",
    "Tells from the limit",
)
LEGEND = (
    "*Luck if good* (*if bad*): how often a model that lies exactly on its limit would, by chance, look as good (as "
    "bad) as this one or more so; below 5 % the verdict is pass (fail).",
    "*Evaluated*: samples are added while a criterion is undecided, and it is evaluated again; the 5 % are shared out "
    "over these evaluations beforehand.",
    "*All at once*: of many verdicts some are wrong by chance. This is what is left of them if all of a recipe, of all "
    "its models, are to be right together with 95 % (Holm's correction).",
    "*Tells from the limit*: how far from its limit a figure has to be in truth for so many samples to show it in four "
    "of five tries.",
)
LEAST_LUCK = 1e-4  # smaller probabilities are shown as smaller than this
UNITS = {"%": f"{TIED}%", "points": f"{TIED}points", "×": f"{TIED}×", "": ""}


def section(records: Sequence[Record]) -> list[str]:
    """The table and what its columns mean; nothing where nothing was judged."""
    corrected = {recipe: holm_outcomes(recipe, records) for recipe in dict.fromkeys(r.recipe for r in records)}
    rows = [
        _row(record, verdict, corrected[record.recipe])
        for record in records
        for verdict in record.verdicts
        if verdict.limit is not None
    ]
    if not rows:
        return []
    legend = [f"- {line}" for line in LEGEND]
    return ["## Verdicts, and how sure they are", "", *legend, "", *markdown_table.table(COLUMNS, rows), ""]


def _row(record: Record, verdict: Verdict, family: Mapping[tuple[str, Criterion], Outcome]) -> list[str]:
    metric, limit = METRICS[verdict.metric], verdict.limit or 0.0
    unit, outcome = UNITS[metric.unit], verdict.outcome
    after = family.get((record.model_id, verdict.criterion))
    return [
        text(record.cell),
        text(criterion(verdict)),
        f"{bound(verdict.metric, limit)}{unit}",
        _found(verdict),
        f"{outcome}{TIED}{MARKS[outcome]}",
        MISSING if after is None else after,
        _probability(verdict.p_good),
        _probability(verdict.p_bad),
        f"{verdict.items:,} {metric.items}" if verdict.items else MISSING,
        "once" if len(verdict.looks) < 2 else f"{len(verdict.looks)}{TIED}times",
        f"{significant(verdict.detectable, 2)}{unit}" if verdict.detectable else MISSING,
    ]


def _found(verdict: Verdict) -> str:
    if verdict.estimate is None:
        return MISSING
    ends = (verdict.low, verdict.high)
    low, high = (verdict.estimate if end is None else end for end in ends)
    digits = 1 if METRICS[verdict.metric].unit in ("%", "points") else 3
    return ranged(Interval(estimate=verdict.estimate, low=low, high=high), digits)


def _probability(p: float | None) -> str:
    """In percent."""
    if p is None:
        return MISSING
    told = f"<{TIED}{100 * LEAST_LUCK:g}" if p < LEAST_LUCK else significant(100 * p, 2)
    return f"{told}{TIED}%"
