"""All models of a recipe together: how many meet every criterion, and Holm's correction over the family of criteria."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog.criteria import METRICS, SUITE_CRITERIA
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import OUTCOMES, State, lacking, state_of
from pytest_quantbench.stats.estimates import ALPHA, Interval
from pytest_quantbench.stats.series import holm

OVERRULING: tuple[State, ...] = ("wrong weights", "collapsed", "worse than its baseline")  # whatever the criteria say
UNMEASURED: tuple[State, ...] = ("not judged", "undecided", "not measured in full")  # where something is not measured
SEVERITY: tuple[Outcome, ...] = ("fail", "anomalous", "undecided", "pass", "informational")  # from the worst on
Criterion = tuple[str, str, float | None]  # of a verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteVerdict:
    """How many models meet all criteria under one recipe, and what that means for its level's own criterion."""

    recipe: str
    level: str
    outcome: Outcome
    met: int
    failed: int
    undecided: int
    anomalous: int  # candidates that are better than their reference: they meet nothing
    incomplete: int  # not all of their criteria were measured
    models: int
    criteria: int  # verdicts by a limit, of all models: the family of Holm's correction
    changed_by_holm: int  # those of them that the correction leaves undecided
    sentence: str
    needed: str = ""


def severity(verdict: Verdict | SuiteVerdict) -> int:
    """The place of a verdict's outcome from the worst on, to sort by."""
    return SEVERITY.index(verdict.outcome)


def worst(record: Record, metric: str, of: str | None = None) -> Verdict | None:
    """The verdict that counts for a metric of a cell: the worst of its criteria, the first of equals. `of`: of those on
    one text or task, and those that name none; None: of all.
    """
    found = [each for each in record.verdicts if each.metric == metric and (of is None or each.of in (of, ""))]
    return min(found, key=severity, default=None)


def of_each(record: Record, metric: str) -> list[Verdict]:
    """The verdicts that count for a metric of a cell: the worst on each text or task that it was judged on."""
    names = dict.fromkeys(verdict.of for verdict in record.verdicts if verdict.metric == metric)
    return [verdict for name in names if (verdict := worst(record, metric, name)) is not None]


def difference(record: Record, metric: str) -> Interval | None:
    """How far a cell is from its reference in a metric: of the look that decided the worst verdict, and of all samples
    where nothing was judged. None where there is no interval.
    """
    verdict = worst(record, metric)
    if verdict is not None and verdict.limit is not None:
        if verdict.estimate is None or verdict.low is None or verdict.high is None:
            return None
        return Interval(estimate=verdict.estimate, low=verdict.low, high=verdict.high)
    return DIFFERENCES[metric](record) if metric in DIFFERENCES else None


def _drop(record: Record) -> Interval | None:
    tasks = [] if record.accuracy is None else list(record.accuracy.tasks.values())
    return tasks[0].drop_points if tasks else None


DIFFERENCES: Mapping[str, Callable[[Record], Interval | None]] = {
    "perplexity_delta": lambda record: None if record.perplexity is None else record.perplexity.delta_interval,
    "accuracy_drop_points": _drop,
    "throughput_ratio": lambda record: None if record.throughput is None else record.throughput.ratio,
}


def beyond_limit(verdict: Verdict) -> float:
    """How far a figure is on the bad side of its limit, in limits: 1 is twice what is allowed. Infinite where there is
    no figure because it overflows; minus infinity where nothing is judged.
    """
    if verdict.limit is None:
        return -math.inf
    if verdict.estimate is None:
        return math.inf if verdict.outcome == "fail" else 0.0
    beyond = verdict.estimate - verdict.limit
    return (beyond if METRICS[verdict.metric].better == "lower" else -beyond) / (abs(verdict.limit) or 1.0)


def holm_outcomes(recipe: str, records: Sequence[Record]) -> Mapping[tuple[str, Criterion], Outcome]:
    """(model, criterion) → the verdict after Holm's correction; the family is all judged criteria of a recipe's models.

    "Good" and "bad" are two families: each is the claim of one side, with its own error probability. What is anomalous
    stays so: a correction that asks for more before a claim is believed must not make a pass of an alarm.
    """
    judged = [
        (record.model_id, verdict)
        for record in records
        if record.recipe == recipe
        for verdict in record.verdicts
        if verdict.p_good is not None and verdict.p_bad is not None
    ]
    good, bad = (holm([getattr(verdict, side) for _, verdict in judged]) for side in ("p_good", "p_bad"))
    return {
        (model, verdict.criterion): _corrected(verdict, p, q)
        for (model, verdict), p, q in zip(judged, good, bad, strict=True)
    }


def _corrected(verdict: Verdict, p_good: float, p_bad: float) -> Outcome:
    if verdict.outcome == "anomalous":
        return "anomalous"
    return "pass" if p_good < ALPHA else "fail" if p_bad < ALPHA else "undecided"


def judge_suite(recipe: str, records: Sequence[Record]) -> SuiteVerdict:
    """Count models by their records of a recipe, by the criterion of its level; judged only where as many models ran
    as the criterion names.

    A model meets all criteria if every one with a limit passed, fails if one failed or its weights, its outputs or its
    baseline speak against it, else it is undecided, anomalous where one is, or incomplete where not all were measured;
    these count as open too (see record.state).
    """
    cells = [record for record in records if record.recipe == recipe]
    level = cells[0].level if cells else recipe.partition("-")[0]
    states = [state_of(record) for record in cells]
    met, odd = states.count("meets all"), states.count("anomalous")
    failed = sum(OUTCOMES[each] == "fail" for each in states)
    open_ = len(states) - met - failed
    incomplete = sum(each in UNMEASURED and bool(lacking(one)) for each, one in zip(states, cells, strict=True))
    unsure = open_ - incomplete - odd
    sentence = f"{met} of {len(states)} models meet all criteria, {failed} do not{_overruled(states)}, "
    sentence += f"{unsure} undecided"
    sentence += f", {odd} anomalous" if odd else ""
    sentence += f", {incomplete} not measured in full" if incomplete else ""
    sentence += _not_judged(cells) + _after_holm(recipe, cells)
    needed, of = SUITE_CRITERIA.get(level, (0, 0))
    outcome: Outcome = "informational"
    if not needed or len(states) < of:
        sentence += f" (judged from {of} models on)" if needed else " (no suite criterion at this level)"
    else:
        share = needed / of  # of however many models there are: 8 of 10 is 16 of 20
        enough, possible = met >= share * len(states), met + open_ >= share * len(states)
        outcome = "pass" if enough else "undecided" if possible else "fail"
        sentence += f"; {needed} of {of} are needed: {outcome}"
    return SuiteVerdict(
        recipe=recipe,
        level=level,
        outcome=outcome,
        met=met,
        failed=failed,
        undecided=unsure,
        anomalous=odd,
        incomplete=incomplete,
        models=len(states),
        criteria=len(holm_outcomes(recipe, cells)),
        changed_by_holm=_changed_by_holm(recipe, cells),
        sentence=sentence,
    )


def _overruled(found: Sequence[State]) -> str:
    """Models that do not meet all for another reason than a criterion: `, of them 1 collapsed`."""
    told = [f"{number} {name}" for name in OVERRULING if (number := found.count(name))]
    return f" (of them {', '.join(told)})" if told else ""


def _not_judged(cells: Sequence[Record]) -> str:
    """Which metrics were measured and say nothing, since "all criteria" does not mean them; on which text or task,
    where there are verdicts on several.
    """
    told = []
    for name, metric in METRICS.items():
        found = [(record.model_id, verdict) for record in cells for verdict in of_each(record, name)]
        open_ = [(model, verdict) for model, verdict in found if verdict.outcome == "informational"]
        if not open_:
            continue
        why = next((verdict.not_judged for _, verdict in open_ if verdict.not_judged), "no limit")
        several = len(found) > len({model for model, _ in found})
        names = dict.fromkeys(verdict.of for _, verdict in open_ if verdict.of) if several else ()
        on, models = f" on {', '.join(names)}" if names else "", {model for model, _ in open_}
        share = f", {len(models)} of {len(cells)} models" if len(models) < len(cells) else ""
        told.append(f"{metric.label}{on} ({why}{share})")
    return f"; not judged: {', '.join(told)}" if told else ""


def _after_holm(recipe: str, cells: Sequence[Record]) -> str:
    changed, criteria = _changed_by_holm(recipe, cells), len(holm_outcomes(recipe, cells))
    return f"; after Holm's correction over {criteria} criteria {changed} more are undecided" if changed else ""


def _changed_by_holm(recipe: str, cells: Sequence[Record]) -> int:
    corrected = holm_outcomes(recipe, cells)
    return sum(
        corrected.get((record.model_id, verdict.criterion), verdict.outcome) != verdict.outcome
        for record in cells
        for verdict in record.verdicts
    )


def outcomes_by_metric(recipe: str, records: Sequence[Record]) -> Mapping[str, Mapping[Outcome, int]]:
    """Metric → outcome → how many of the recipe's models have it as their worst; models without any are not counted."""
    found: dict[str, Counter[Outcome]] = {metric: Counter() for metric in METRICS}
    for record in records:
        for metric in METRICS if record.recipe == recipe else ():
            if (verdict := worst(record, metric)) is not None:
                found[metric][verdict.outcome] += 1
    return found
