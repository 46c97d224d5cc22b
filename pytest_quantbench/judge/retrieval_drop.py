"""Retrieval's verdict: the paired drop in every stratum of depth and hops that the reference can do.

A stratum is one that the reference *cannot do* where its accuracy is surely less than `ABLE` above chance: it says
nothing of a quantized model, and is told. It is one that the reference *can do* where that is surely above chance by
more than the limit, so that a model that guesses would show. Between the two it is open: what loses nothing is seen
there too, but hardly what loses.

Passed is what loses less than the limit in every stratum but those that the reference cannot do, where it can do one at
least (after Bonferroni's correction): all claims have to hold, so each is made with the error probability of one.
Where the last look still does not show that it can do any, nothing is judged (`unless_able`).
Failed is what loses more in any, after Holm's correction over all strata that are asked, whether the reference can do
them or not: which of them are judged depends on the same answers. A pass could also be wrong because a stratum was left
out that the reference can do; `LEFT_OUT` of the error probability is kept for that, and the rest for the drop.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.judge.rules import bare, enough, judged
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.measures.samples import TaskSamples
from pytest_quantbench.stats.estimates import ALPHA
from pytest_quantbench.stats.proportions import Flips, excess_p, flips, questions_for_excess
from pytest_quantbench.stats.series import holm

METRIC = METRICS["retrieval_drop_points"]
ABLE = 0.15  # above chance
LEFT_OUT = 0.1  # of the error probability
Ability = Literal["can", "cannot", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumVerdict:
    """What is known of one stratum: the paired drop, whether the `reference` can do it, and the outcome, which is
    informational where it cannot. `p_bad` is after Holm's correction.
    """

    name: str
    drop: Flips
    reference: Ability
    outcome: Outcome
    p_good: float
    p_bad: float


def by_stratum(
    quantized: Mapping[str, TaskSamples], reference: Mapping[str, TaskSamples], limit: float, alpha: float = ALPHA
) -> list[StratumVerdict]:
    """Every stratum judged by a limit in percentage points. Raises ComparisonError if the questions differ."""
    _refuse_other_questions(quantized, reference)
    found = [_alone(name, task, reference[name], limit, alpha) for name, task in quantized.items()]
    corrected = holm([each.p_bad for each in found])
    return [_decided(replace(each, p_bad=p), alpha) for each, p in zip(found, corrected, strict=True)]


def _refuse_other_questions(quantized: Mapping[str, TaskSamples], reference: Mapping[str, TaskSamples]) -> None:
    same = list(quantized) == list(reference)
    if not same or any(task.sha256 != reference[name].sha256 for name, task in quantized.items()):
        raise ComparisonError("Retrieval: the reference answered other questions than the quantized model.")


def _alone(name: str, quantized: TaskSamples, reference: TaskSamples, limit: float, alpha: float) -> StratumVerdict:
    drop = flips(reference.correct, quantized.correct, reference.clusters)
    unable = p_unable(reference)
    ability: Ability = "cannot" if unable < LEFT_OUT * alpha else "open"
    if ability == "open" and p_able(reference, limit) < alpha:
        ability = "can"
    return StratumVerdict(
        name=name,
        drop=drop,
        reference=ability,
        outcome="informational",
        p_good=min(1.0, drop.p_below(limit) / (1 - LEFT_OUT), unable / LEFT_OUT),
        p_bad=1.0 if ability == "cannot" else drop.p_above(limit),
    )


def p_able(reference: TaskSamples, limit: float) -> float:
    """One-sided p of "the reference is above chance by more than the limit"."""
    return excess_p(reference.correct, reference.chance, max(limit, 0.0) / 100, reference.clusters)


def p_able_somewhere(reference: Mapping[str, TaskSamples], limit: float) -> float:
    """The same of one stratum at least, after Bonferroni's correction."""
    return min(1.0, len(reference) * min(p_able(each, limit) for each in reference.values()))


def p_unable(reference: TaskSamples) -> float:
    """One-sided p of "the reference is less than `ABLE` above chance": it has more wrong than that leaves."""
    return excess_p(~reference.correct, 1 - reference.chance - ABLE, 0.0, reference.clusters)


def _decided(found: StratumVerdict, alpha: float) -> StratumVerdict:
    outcome: Outcome = "fail" if found.p_bad < alpha else "pass" if found.p_good < alpha else "undecided"
    return replace(found, outcome="informational" if found.reference == "cannot" else outcome)


def judge_retrieval(
    quantized: Mapping[str, TaskSamples],
    reference: Mapping[str, TaskSamples],
    limit: float | None,
    alpha: float = ALPHA,
) -> Verdict:
    """The verdict over all strata, with the figures of the one that it hangs on. Without a limit it is informational,
    and shows the largest drop. Raises ComparisonError if the questions are not the same.
    """
    strata = by_stratum(quantized, reference, limit or 0.0, alpha)
    if all(p_unable(each) < LEFT_OUT * ALPHA for each in reference.values()):  # claims nothing: by the plain α
        return _nothing_to_lose(reference, limit)
    able = [each for each in strata if each.reference != "cannot"]
    p_some = p_able_somewhere(reference, limit or 0.0)
    p_good, p_bad = max(p_some, *(each.p_good for each in strata)), min(each.p_bad for each in strata)
    outcome: Outcome = "fail" if p_bad < alpha else "pass" if p_good < alpha else "undecided"
    worst = _hangs_on(able, outcome, limit)
    detail = _detail(worst, quantized[worst.name], reference[worst.name], strata)
    found = judged(METRIC, worst.drop, limit, detail, alpha, worst.drop.questions)
    mine, before = (float(each[worst.name].correct.mean()) for each in (quantized, reference))
    found = replace(found, value=mine, reference_value=before)
    if limit is None:
        return found
    needed = "" if outcome != "undecided" else found.needed or "a correction for several strata asks for more questions"
    if outcome == "undecided" and p_some >= alpha:
        best = max(reference.values(), key=lambda each: float(each.correct.mean()))
        needed = _to_be_able(best, limit)
    return replace(found, outcome=outcome, p_good=p_good, p_bad=p_bad, needed=needed)


def unless_able(verdict: Verdict, reference: Mapping[str, TaskSamples], limit: float | None) -> Verdict:
    """The last look's verdict, or none where it is undecided and the reference was never shown to do any stratum."""
    if verdict.outcome != "undecided" or p_able_somewhere(reference, limit or 0.0) < ALPHA:
        return verdict
    best = max(reference, key=lambda name: float(reference[name].correct.mean()))
    right, chance = float(reference[best].correct.mean()), reference[best].chance
    why = (
        f"the reference was not shown to do it at any depth: {right:.1%} right at most ({best}, "
        f"{len(reference[best].ids)} questions), guessing {chance:.1%}"
    )
    return replace(
        verdict, outcome="informational", not_judged=why, needed="", sentence=f"Retrieval is not judged: {why}."
    )


def _hangs_on(able: list[StratumVerdict], outcome: Outcome, limit: float | None) -> StratumVerdict:
    """The stratum that a verdict is of: what surely fails, else what is least sure to pass; or the worst."""
    if limit is None:
        return max(able, key=lambda each: each.drop.value)
    if outcome == "fail":
        return min(able, key=lambda each: (each.p_bad, -each.drop.value))
    return max(able, key=lambda each: (each.p_good, each.drop.value))


def _detail(worst: StratumVerdict, quantized: TaskSamples, reference: TaskSamples, strata: list[StratumVerdict]) -> str:
    shown = f"{np.mean(quantized.correct):.1%} against {np.mean(reference.correct):.1%}"
    told = f"at {worst.name}: {shown} on the same {worst.drop.questions} questions"
    count = {ability: sum(each.reference == ability for each in strata) for ability in ("can", "cannot", "open")}
    told += f"; the reference can do {count['can']} of {len(strata)} strata of depth and hops"
    told += f", cannot do {count['cannot']}, which are not judged" if count["cannot"] else ""
    return told + (f", and may be able to do {count['open']}" if count["open"] else "")


def _nothing_to_lose(reference: Mapping[str, TaskSamples], limit: float | None) -> Verdict:
    best = max(reference, key=lambda name: float(reference[name].correct.mean()))
    right, chance = float(reference[best].correct.mean()), reference[best].chance
    why = f"the reference cannot do it at any depth: {right:.1%} right at most ({best}), guessing {chance:.1%}"
    found = bare(METRIC, None, None, f"Retrieval is not judged: {why}.", "informational", len(reference[best].ids))
    return found if limit is None else replace(found, not_judged=why)


def _to_be_able(reference: TaskSamples, limit: float) -> str:
    """What would show whether the reference can do a stratum."""
    room = max(limit, 0.0) / 100
    more = questions_for_excess(reference.correct, reference.chance, room, reference.clusters)
    doubt = "whether the reference can do any of it is open"
    return f"{doubt}, which more questions tell" if more is None else f"{doubt}; {enough(METRIC.items, more, None)}"
