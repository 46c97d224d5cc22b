"""A verdict → how sure it is, in sentences: by itself, together with its recipe's other verdicts, and over all items.

Computes nothing: error probabilities are the judge's, Holm's correction is the suite's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import Criterion, holm_outcomes
from pytest_quantbench.report.html.typeset import share, signed, typeset
from pytest_quantbench.stats.estimates import Interval

Family = Mapping[tuple[str, Criterion], Outcome]  # the outcomes of a recipe's criteria after Holm's correction


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """What is said beside one verdict; a sentence is empty where there is nothing to say."""

    alone: str  # how sure the verdict is by itself
    together: str  # whether it holds when all verdicts of its recipe are to be right at once
    whole: str  # the same figure over all items, where fewer were enough to decide
    taken_back: bool  # Holm's correction makes it undecided


def families(records: Sequence[Record]) -> dict[str, Family]:
    """Recipe → what Holm's correction leaves of the verdicts on it."""
    return {recipe: holm_outcomes(recipe, records) for recipe in dict.fromkeys(record.recipe for record in records)}


def certainties(record: Record, family: Family) -> list[Certainty]:
    """What is said beside each verdict of a record, in their order."""
    return [_certainty(record, verdict, family) for verdict in record.verdicts]


def _certainty(record: Record, verdict: Verdict, family: Family) -> Certainty:
    corrected = family.get((record.model_id, verdict.criterion), verdict.outcome)
    taken_back = corrected != verdict.outcome
    return Certainty(
        alone=ALONE[verdict.outcome](verdict),
        together=_together(record.recipe, verdict, len(family), taken_back),
        whole=typeset(_whole(record, verdict)),
        taken_back=taken_back,
    )


def _is_exact(verdict: Verdict) -> bool:
    return verdict.estimate is not None and verdict.low == verdict.high


def _by_chance(verdict: Verdict, p: float | None, really: str, seen: str) -> str:
    if _is_exact(verdict):
        return "This is counted and not estimated: chance has no part in it."
    if p is None:
        return ""
    looks = f" (the {len(verdict.looks)} looks at the data are counted in)" if len(verdict.looks) > 1 else ""
    return (
        f"If it were really {really}, figures as {seen} as these would come up in at most {share(p)} of tests{looks}."
    )


def _open(verdict: Verdict) -> str:
    if verdict.low is None or verdict.high is None:
        return "There is no interval, so that neither side of the limit can be claimed."
    return "Its interval holds the limit: to say either that it is met or that it is missed could be wrong too often."


ALONE: Mapping[Outcome, Callable[[Verdict], str]] = {
    "pass": lambda verdict: _by_chance(verdict, verdict.p_good, "at the limit or worse", "good"),
    "fail": lambda verdict: _by_chance(verdict, verdict.p_bad, "within the limit", "bad"),
    "anomalous": lambda verdict: _by_chance(verdict, verdict.p_better, "no better than its original", "good"),
    "undecided": _open,
    "informational": lambda verdict: "",
}


def _together(recipe: str, verdict: Verdict, count: int, taken_back: bool) -> str:
    if count < 2 or verdict.outcome not in ("pass", "fail") or _is_exact(verdict):
        return ""
    all_of = f"all {count:,} judged figures of {recipe}, of all its models,"
    if taken_back:
        return (
            f"By itself this verdict stands. If {all_of} are to be right at once with 95\u00a0%, it is undecided "
            "(Holm's correction)."
        )
    return f"It holds even if {all_of} are to be right at once with 95\u00a0% (Holm's correction)."


def _whole(record: Record, verdict: Verdict) -> str:
    """`Decided after 512 of 2,048 tokens. Over all of them the figure is +0.620 [+0.4, +0.8].`"""
    found = WHOLE[verdict.metric](record, verdict.of) if verdict.metric in WHOLE else None
    if found is None or verdict.items is None or verdict.limit is None or verdict.items >= found[0]:
        return ""
    items, interval, digits = found
    kind = METRICS[verdict.metric].items
    begins = f"Decided after {verdict.items:,} of the {items:,} {kind} that were measured"
    if interval is None:
        return f"{begins}."
    estimate, low, high = (signed(each, digits) for each in (interval.estimate, interval.low, interval.high))
    return f"{begins}; over all of them it is {estimate} [{low}, {high}]."


Whole = tuple[int, Interval | None, int]  # items, the figure over all of them, digits behind its point


def _text(record: Record, of: str) -> Whole | None:
    parts = [record.perplexity, *record.perplexities.values()]
    found = next((part for part in parts if part is not None and part.corpus == of), None)
    return None if found is None else (found.tokens, found.delta_interval, 3)


def _task(record: Record, of: str) -> Whole | None:
    found = record.accuracy.tasks.get(of) if record.accuracy else None
    return None if found is None else (found.questions, found.drop_points, 1)


WHOLE: Mapping[str, Callable[[Record, str], Whole | None]] = {
    "perplexity_delta": _text,
    "accuracy_drop_points": _task,
}
