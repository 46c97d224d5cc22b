"""T3's verdict: the paired drop in accuracy, by a reference that has so much to lose. Touches no model and no file."""

from dataclasses import replace

import numpy as np

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.judge.anomaly import of_candidate
from pytest_quantbench.judge.rules import enough, judged
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.samples import TaskSamples
from pytest_quantbench.stats.estimates import ALPHA
from pytest_quantbench.stats.proportions import excess_p, flips, questions_for_excess, wilson


def judge_accuracy(
    name: str,
    quantized: TaskSamples,
    reference: TaskSamples,
    limit: float | None,
    alpha: float = ALPHA,
    available: int | None = None,
    floor: float | None = None,
) -> Verdict:
    """The paired accuracy drop in percentage points; `available`: how many questions the task has; `floor`: of a
    candidate, what noise alone changes. Raises ComparisonError if the questions are not the same.
    """
    if quantized.sha256 != reference.sha256 or quantized.ids != reference.ids:
        raise ComparisonError(f"{name}: the reference answered other questions than the quantized model.")
    observed = flips(reference.correct, quantized.correct, reference.clusters)
    detail = (
        f"{name} {np.mean(quantized.correct):.1%} against {np.mean(reference.correct):.1%} on the same "
        f"{observed.questions} questions, {observed.lost} lost and {observed.gained} gained"
    )
    if observed.design_effect >= 1.005:  # as it is shown
        detail += f", {len(set(reference.clusters))} sources ({reference.cluster_key}), variance × "
        detail += f"{observed.design_effect:.2f}"
    metric = METRICS["accuracy_drop_points"]
    found = judged(metric, observed, limit, detail, alpha, observed.questions, available=available)
    found = of_candidate(found, observed, floor, alpha)
    return found if limit is None else _with_room(found, reference, limit, alpha, available)


def _with_room(found: Verdict, reference: TaskSamples, limit: float, alpha: float, available: int | None) -> Verdict:
    """The verdict on a drop, with a pass only where the reference is above chance by more than the limit: a model that
    guesses drops by no more than the reference has above chance, and passes by any limit beyond that.
    """
    room, chance, right = max(limit, 0.0) / 100, reference.chance, float(np.mean(reference.correct))
    p = excess_p(reference.correct, chance, room, reference.clusters)
    assert found.p_good is not None
    found = replace(found, p_good=max(found.p_good, p))
    passes_but_for_it = found.outcome == "pass" or (found.outcome == "undecided" and (found.estimate or 0.0) < limit)
    if p < alpha or not passes_but_for_it:
        return found
    told = (
        f" The reference has {right:.1%} right of {len(reference.ids):,} questions, guessing {chance:.1%}: a model "
        f"that guesses might drop by less than the limit."
    )
    return replace(
        found, outcome="undecided", sentence=found.sentence + told, needed=_room_needed(reference, room, available)
    )


def hopeless(reference: TaskSamples, limit: float | None) -> bool:
    """Whether the reference is surely not above chance by more than the limit, so that no verdict can be a pass and
    more questions are asked for nothing: the upper end of Wilson's interval of its accuracy is below both together.
    """
    right, questions = int(reference.correct.sum()), len(reference.ids)
    return limit is not None and wilson(right, questions).high < reference.chance + max(limit, 0.0) / 100


def _room_needed(reference: TaskSamples, room: float, available: int | None) -> str:
    """What would show that the reference is above chance by more than the limit, if anything would."""
    easier = "judge by an easier task (--task NAME)"
    more = questions_for_excess(reference.correct, reference.chance, room, reference.clusters)
    if more is None:
        return f"no number of questions would settle it; {easier}"
    told = enough("questions", more, available)
    return f"{told}; {easier}" if available is not None and more > available else told
