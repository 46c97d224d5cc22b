"""What is said of a cell in each of its states (see record.state), and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_quantbench.catalog.criteria import METRICS, asked_of
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.state import State, judges_speed, lacking, regressions, states_of
from pytest_quantbench.record.suite import beyond_limit, of_each
from pytest_quantbench.report.phrases import NAMES, count, criterion, figure, joined, limit, since

Word = Literal["may ship", "may not ship", "undecided", "not judged"]
NOT_DEPLOYED = "it ran on kernels that nobody deploys"
LOOK_FIRST = (
    "look before you ship: weights do not gain by being rounded, so it may be another fine-tune, or made with this "
    "very text or these questions"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One thing that can be said of a cell: the reason, and what would settle it."""

    word: Word
    why: Callable[[Record], str]
    settled_by: Callable[[Record], str] = lambda record: ""
    shared: bool = False  # cells of one `alike` share the reason word for word
    alike: Callable[[Record], str] = lambda record: ""
    first: str = "One of them is"  # before the cell that stands for many


def _were(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _judged(record: Record, *outcomes: Outcome) -> list[Verdict]:
    return [verdict for verdict in record.verdicts if verdict.outcome in outcomes]


def _met(record: Record) -> str:
    """`the two criteria that were judged (…). Throughput was not judged: bound by overhead`."""
    names = list(dict.fromkeys(criterion(verdict) for verdict in _judged(record, "pass")))
    of = f"the {count(len(names))} {'criterion' if len(names) == 1 else 'criteria'} that "
    unjudged = _unjudged(record)
    told = {*lacking(record), *(verdict.metric for verdict in record.verdicts)}
    if "throughput_ratio" in asked_of(record.kind) and "throughput_ratio" not in told:
        unjudged.setdefault(NOT_DEPLOYED, []).append(NAMES["throughput_ratio"])  # nor was it measured
    others = [f". {joined(each).capitalize()} {_were(each)} not judged: {why}" for why, each in unjudged.items()]
    return f"{of}{_were(names)} judged ({', '.join(names)}){''.join(others)}"


def _ships(record: Record) -> str:
    return f"it meets {_met(record)}"


def _unjudged(record: Record) -> dict[str, list[str]]:
    """What was measured and has no verdict: the criteria by the reason."""
    reasons: dict[str, list[str]] = {}
    for name in METRICS:
        for verdict in of_each(record, name):
            if verdict.outcome != "informational":
                continue
            slow = name == "throughput_ratio" and not judges_speed(record) and verdict.not_judged
            why = NOT_DEPLOYED if slow else verdict.not_judged or f"{record.level} has no limit"
            reasons.setdefault(why, []).append(criterion(verdict))
    return reasons


def _failed(record: Record) -> str:
    """The criterion that is missed by most, with figures, and the names of the others."""
    first, *others = sorted(_judged(record, "fail"), key=beyond_limit, reverse=True)
    named = joined(list(dict.fromkeys(criterion(verdict) for verdict in others)))
    return f"{figure(first)}, and {limit(first)}" + (f"; {named} missed, too" if named else "")


def _anomalous(record: Record) -> str:
    found = _judged(record, "anomalous")
    is_better = all(verdict.estimate is not None and verdict.estimate < 0 for verdict in found)
    told = "which is" if is_better else "and by its verdict it is"  # of a record whose estimate says otherwise
    return f"{joined(list(map(figure, found)))}, {told} better than its original by more than noise; {LOOK_FIRST}"


def _worse(record: Record) -> str:
    """What got worse since the baseline; then what is missed beside, or which criteria it meets."""
    told = f"since its baseline it got worse: {joined([since(change) for change in regressions(record)])}"
    beside = states_of(record)[1:]
    if "fails" in beside:
        return f"{told}; besides, {_failed(record)}"
    return told if beside else f"{told}, though it meets {_met(record)}"


def _open(record: Record) -> str:
    """What is undecided, and what was not measured."""
    found = [f"{figure(each)}, and {limit(each)}" for each in _judged(record, "undecided")]
    if not found and _judged(record, "pass"):
        found = [f"it meets {_met(record)}"]
    return "; ".join([*found, *_missing(record)])


def _open_settled_by(record: Record) -> str:
    needed = [verdict.needed for verdict in _judged(record, "undecided") if verdict.needed]
    missing = [NAMES[name] for name in lacking(record)]
    return "; ".join([*needed, *([f"to settle it, measure {joined(missing)}, too"] if missing else [])])


def _without_verdict(record: Record) -> str:
    """Why nothing was judged: `size and throughput were measured, and int8 has no limit`."""
    found = [f"{joined(names)} {_were(names)} measured, and {why}" for why, names in _unjudged(record).items()]
    return "; ".join([*found, *_missing(record)])


def _missing(record: Record) -> list[str]:
    missing = [NAMES[name] for name in lacking(record)]
    return [f"{joined(missing)} {_were(missing)} not measured"] if missing else []


def _collapsed(record: Record) -> str:
    found = record.coherence
    assert found is not None
    signs = ["writes in loops where its original does not"] if found.loops else []
    signs += ["answers no better than by guessing"] if found.guesses else []
    return f"it has collapsed: it {joined(signs)}"


def _wrong_weights(record: Record) -> str:
    first, *others = record.integrity or ()
    are = "finding is" if len(others) == 1 else "findings are"
    more = f" ({len(others)} more {are} in its record)" if others else ""
    return f"its decoded weights are not what they should be: {first.rstrip('.')}{more}"


KINDS: Mapping[State, Kind] = {
    "wrong weights": Kind(word="may not ship", why=_wrong_weights),
    "collapsed": Kind(word="may not ship", why=_collapsed),
    "worse than its baseline": Kind(word="may not ship", why=_worse),
    "fails": Kind(word="may not ship", why=_failed, first="Farthest from its limit is"),
    "anomalous": Kind(
        word="undecided",
        why=_anomalous,
        settled_by=lambda record: "to settle it, find out what the file was made from and with which texts",
    ),
    "not judged": Kind(word="not judged", why=_without_verdict, shared=True, alike=_without_verdict),
    "undecided": Kind(word="undecided", why=_open, settled_by=_open_settled_by),
    "not measured in full": Kind(word="undecided", why=_open, settled_by=_open_settled_by, shared=True, alike=_open),
    "meets all": Kind(word="may ship", why=_ships, shared=True, alike=_ships),
}
