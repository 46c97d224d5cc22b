"""How many models meet each criterion of a recipe, all of them, and what that means for the recipe."""

from collections.abc import Mapping, Sequence

from pytest_quantbench.catalog.criteria import SUITE_CRITERIA
from pytest_quantbench.catalog.recipes import LEVEL_NAMES, REFERENCE
from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import shown_metrics
from pytest_quantbench.record.suite import SuiteVerdict, judge_suite, outcomes_by_metric
from pytest_quantbench.report import markdown_table
from pytest_quantbench.report.markdown.escaped import text
from pytest_quantbench.report.markdown.figures import TIED
from pytest_quantbench.report.phrases import NAMES
from pytest_quantbench.report.tables import MARKS, MISSING

LEGEND = (
    "Of how many models. *All of these*: whether a model meets every criterion that was judged of it; one of which any "
    "is undecided or was not measured is open. *Asked*: how many must meet them all."
)


def section(records: Sequence[Record]) -> list[str]:
    """A row for each recipe of which anything was judged; nothing without one. Candidates are files of one model."""
    of_recipes = [record for record in records if record.candidate is None and record.recipe != REFERENCE.id]
    judged = {r.recipe: r.level for r in of_recipes if any(verdict.limit is not None for verdict in r.verdicts)}
    recipes = [recipe for level in LEVEL_NAMES for recipe in sorted(judged) if judged[recipe] == level]
    if not recipes:
        return []
    metrics = shown_metrics(of_recipes)
    names = ["Recipe", "Models", *(NAMES[each].capitalize() for each in metrics), "All of these", "Asked", "Verdict"]
    rows = [
        _row(judge_suite(recipe, of_recipes), outcomes_by_metric(recipe, of_recipes), metrics) for recipe in recipes
    ]
    return ["## Criteria met", "", LEGEND, "", *markdown_table.table(names, rows), ""]


def _row(suite: SuiteVerdict, outcomes: Mapping[str, Mapping[Outcome, int]], metrics: Sequence[str]) -> list[str]:
    open_ = suite.undecided + suite.anomalous + suite.incomplete
    needed, of = SUITE_CRITERIA.get(suite.level, (0, 0))
    alike: dict[Outcome, int] = {"pass": suite.met, "fail": suite.failed, "undecided": open_}
    judged = MISSING if suite.outcome == "informational" else f"{suite.outcome} {MARKS[suite.outcome]}"
    cells = [
        text(suite.recipe),
        f"{suite.models:,}",
        *(_counts(outcomes[metric]) for metric in metrics),
        _counts(alike),
    ]
    return [*cells, f"{needed} of {of}".replace(" ", TIED) if needed else MISSING, judged.replace(" ", TIED)]


def _counts(outcomes: Mapping[Outcome, int]) -> str:
    """`8 ✓ 1 ✗ 1 ?`; the missing sign where no model has any."""
    told = [f"{outcomes[each]}{TIED}{sign}" for each, sign in MARKS.items() if outcomes.get(each)]
    return " ".join(told) or MISSING
