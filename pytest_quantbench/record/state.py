"""What a record comes to: the one state of a cell that answers, suites, badges, picks and tables are made of.

Several can hold at once, such as a missed criterion beside a baseline that was better; the first of STATES counts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pytest_quantbench.catalog.criteria import METRICS, asked_of
from pytest_quantbench.judge.change import Change
from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.schema import Record

State = Literal[
    "wrong weights",
    "collapsed",
    "worse than its baseline",
    "fails",
    "anomalous",
    "not judged",
    "undecided",
    "not measured in full",
    "meets all",
]


def judges_speed(record: Record) -> bool:
    """Whether a cell's speed is judged by the engine that ran it, where it ran; where that is not known, it is."""
    return record.machine is None or record.machine.judges_speed is not False


def lacking(record: Record) -> list[str]:
    """The metrics that a cell's criteria are of and that were not measured. Throughput is none of them where its engine
    does not run as people deploy it, and it is not judged however it is.
    """
    found = {verdict.metric for verdict in record.verdicts} | (set() if judges_speed(record) else {"throughput_ratio"})
    return [name for name in asked_of(record.kind) if name not in found]


def shown_metrics(records: Sequence[Record]) -> list[str]:
    """The metrics that a table over these cells has: those of weights, and of the others what was judged of any."""
    there = {verdict.metric for record in records for verdict in record.verdicts}
    return [name for name, metric in METRICS.items() if "weights" in metric.of or name in there]


def since_baseline(record: Record) -> list[Change]:
    """What became of each figure since the baseline, once, however many verdicts of its check carry it; a regression
    before what another verdict says of the same figure.
    """
    found: dict[tuple[str, str], Change] = {}
    for change in (change for verdict in record.verdicts for change in verdict.baseline):
        kept = found.setdefault((change.metric, change.of), change)
        if kept.word != "regression" and change.word == "regression":
            found[change.metric, change.of] = change
    return list(found.values())


def regressions(record: Record) -> list[Change]:
    """The figures that are worse than the baseline, beyond the noise."""
    return [change for change in since_baseline(record) if change.word == "regression"]


def _has(record: Record, *outcomes: Outcome) -> bool:
    return any(verdict.outcome in outcomes for verdict in record.verdicts)


# What overrules comes first; the last one holds for whatever meets all that was judged.
STATES: Mapping[State, Callable[[Record], bool]] = {
    "wrong weights": lambda record: bool(record.integrity),
    "collapsed": lambda record: record.coherence is not None and record.coherence.collapsed,
    "worse than its baseline": lambda record: bool(regressions(record)),
    "fails": lambda record: _has(record, "fail"),
    "anomalous": lambda record: _has(record, "anomalous"),
    "not judged": lambda record: not _has(record, "pass", "undecided"),
    "undecided": lambda record: _has(record, "undecided"),
    "not measured in full": lambda record: bool(lacking(record)),
    "meets all": lambda record: True,
}
OUTCOMES: Mapping[State, Outcome] = {  # what each comes to, as the outcome of one criterion is told and coloured
    "wrong weights": "fail",
    "collapsed": "fail",
    "worse than its baseline": "fail",
    "fails": "fail",
    "anomalous": "anomalous",
    "not judged": "informational",
    "undecided": "undecided",
    "not measured in full": "undecided",
    "meets all": "pass",
}


def states_of(record: Record) -> list[State]:
    """All that hold for a cell but for `meets all`, which holds where nothing else does."""
    found = [name for name, holds in STATES.items() if holds(record)]
    return found[:-1] or found


def state_of(record: Record) -> State:
    """The one that counts."""
    return states_of(record)[0]


def outcome_of(record: Record) -> Outcome:
    """The cell's outcome over all of its criteria."""
    return OUTCOMES[state_of(record)]
