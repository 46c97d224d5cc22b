"""All models of a level together: how many meet every criterion, and Holm's correction over the family of criteria."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_quantbench.catalog import METRICS, SUITE_CRITERIA
from pytest_quantbench.estimates import ALPHA
from pytest_quantbench.record import Record
from pytest_quantbench.stats import holm
from pytest_quantbench.verdict import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteVerdict:
    """How many models of a level meet all its criteria, and what that means for the level's own criterion."""

    level: str
    outcome: Outcome
    met: int
    failed: int
    undecided: int
    incomplete: int  # not all of their criteria were measured
    sentence: str
    needed: str = ""


def holm_outcomes(level: str, records: Sequence[Record]) -> Mapping[tuple[str, str], Outcome]:
    """(model, metric) → the verdict after Holm's correction; the family is all judged criteria of a level's models.

    "Good" and "bad" are two families: each is the claim of one side, with its own error probability.
    """
    judged = [
        (record.model_id, verdict)
        for record in records
        if record.recipe == level
        for verdict in record.verdicts
        if verdict.p_good is not None and verdict.p_bad is not None
    ]
    good, bad = (holm([getattr(verdict, side) for _, verdict in judged]) for side in ("p_good", "p_bad"))
    return {
        (model, verdict.metric): "pass" if p < ALPHA else "fail" if q < ALPHA else "undecided"
        for (model, verdict), p, q in zip(judged, good, bad, strict=True)
    }


def judge_suite(level: str, records: Sequence[Record]) -> SuiteVerdict:
    """Count models by their default-recipe records; judged only where as many models ran as the criterion names.

    A model meets all criteria if every criterion with a limit passed, fails if one failed, else it is undecided, or
    incomplete where not all criteria were measured, which counts as open too.
    """
    cells = [record for record in records if record.recipe == level]
    states = [_state(record) for record in cells]
    met, failed = states.count("pass"), states.count("fail")
    incomplete = states.count("incomplete")
    open_ = len(states) - met - failed
    sentence = f"{met} of {len(states)} models meet all criteria, {failed} do not, {open_ - incomplete} undecided"
    sentence += f", {incomplete} not measured in full" if incomplete else ""
    corrected = holm_outcomes(level, records)
    changed = sum(corrected.get((r.model_id, v.metric), v.outcome) != v.outcome for r in cells for v in r.verdicts)
    if changed:
        sentence += f"; after Holm's correction over {len(corrected)} criteria {changed} more are undecided"
    needed, of = SUITE_CRITERIA.get(level, (0, 0))
    if not needed or len(states) < of:
        why = f"judged from {of} models on" if needed else "no suite criterion at this level"
        return SuiteVerdict(
            level=level,
            outcome="informational",
            met=met,
            failed=failed,
            undecided=open_ - incomplete,
            incomplete=incomplete,
            sentence=f"{sentence} ({why})",
        )
    share = needed / of  # of however many models there are: 8 of 10 is 16 of 20
    enough, possible = met >= share * len(states), met + open_ >= share * len(states)
    outcome: Outcome = "pass" if enough else "undecided" if possible else "fail"
    sentence += f"; {needed} of {of} are needed: {outcome}"
    return SuiteVerdict(
        level=level,
        outcome=outcome,
        met=met,
        failed=failed,
        undecided=open_ - incomplete,
        incomplete=incomplete,
        sentence=sentence,
    )


def _state(record: Record) -> Outcome | Literal["incomplete"]:
    """A cell's verdicts taken together."""
    outcomes = {verdict.metric: verdict.outcome for verdict in record.verdicts}
    if "fail" in outcomes.values():
        return "fail"
    if not set(METRICS) <= outcomes.keys():
        return "incomplete"
    judged = [outcome for outcome in outcomes.values() if outcome != "informational"]
    return "pass" if judged and set(judged) == {"pass"} else "undecided"
