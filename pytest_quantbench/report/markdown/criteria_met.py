"""How many models meet each criterion of a recipe, all of them, and what that means for the recipe."""

from collections.abc import Mapping, Sequence

from pytest_quantbench.catalog.criteria import METRICS, SUITE_CRITERIA
from pytest_quantbench.catalog.recipes import LEVELS, REFERENCE
from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import SuiteVerdict, judge_suite, outcomes_by_metric
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.markdown.figures import TIED
from pytest_quantbench.report.phrases import NAMES
from pytest_quantbench.report.tables import MARKS, MISSING

COLUMNS = ("Recipe", "Models", *(NAMES[metric].capitalize() for metric in METRICS), "All of these", "Asked", "Verdict")
LEGEND = (
    "Of how many models. *All of these*: whether a model meets every criterion that was judged of it; one of which any "
    "is undecided or was not measured is open. *Asked*: how many must meet them all."
)


def section(records: Sequence[Record]) -> list[str]:
    """A row for each recipe of which anything was judged; nothing without one. Candidates are files of one model."""
    of_recipes = [record for record in records if record.candidate is None and record.recipe != REFERENCE.id]
    judged = {r.recipe: r.level for r in of_recipes if any(verdict.limit is not None for verdict in r.verdicts)}
    recipes = [recipe for level in LEVELS for recipe in sorted(judged) if judged[recipe] == level]
    if not recipes:
        return []
    rows = [_row(judge_suite(recipe, of_recipes), outcomes_by_metric(recipe, of_recipes)) for recipe in recipes]
    return ["## Criteria met", "", LEGEND, "", *markdown_table.table(COLUMNS, rows), ""]


def _row(suite: SuiteVerdict, outcomes: Mapping[str, Mapping[Outcome, int]]) -> list[str]:
    open_ = suite.undecided + suite.anomalous + suite.incomplete
    needed, of = SUITE_CRITERIA.get(suite.level, (0, 0))
    alike: dict[Outcome, int] = {"pass": suite.met, "fail": suite.failed, "undecided": open_}
    judged = MISSING if suite.outcome == "informational" else f"{suite.outcome} {MARKS[suite.outcome]}"
    cells = [
        text(suite.recipe),
        f"{suite.models:,}",
        *(_counts(outcomes[metric]) for metric in METRICS),
        _counts(alike),
    ]
    return [*cells, f"{needed} of {of}".replace(" ", TIED) if needed else MISSING, judged.replace(" ", TIED)]


def _counts(outcomes: Mapping[Outcome, int]) -> str:
    """`8 ✓ 1 ✗ 1 ?`; the missing sign where no model has any."""
    told = [f"{outcomes[each]}{TIED}{sign}" for each, sign in MARKS.items() if outcomes.get(each)]
    return " ".join(told) or MISSING
