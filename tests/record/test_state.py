"""The one state of a cell, and that whatever tells of cells tells the same."""

import dataclasses

import pytest
from builders import make_change, make_record, make_verdict
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.catalog.criteria import asked_of
from pytest_quantbench.engines.machine import Machine
from pytest_quantbench.judge.coherence import Coherence
from pytest_quantbench.record.state import (
    OUTCOMES,
    STATES,
    judges_speed,
    outcome_of,
    regressions,
    since_baseline,
    state_of,
    states_of,
)
from pytest_quantbench.record.suite import judge_suite
from pytest_quantbench.report.answers import answer
from pytest_quantbench.report.badge import badge
from pytest_quantbench.report.html.rows import rows
from pytest_quantbench.report.reasons import KINDS

SIGNS = dict.fromkeys(field.name for field in dataclasses.fields(Coherence))
LOOPING = Coherence(**SIGNS | {"loops": True})
CPU = Machine(chip="A Chip", cores=2, memory_gb=8.0, os="Linux", backend="cpu", versions={}, judges_speed=False)
REGRESSION = make_change("size")


def cell(*outcomes, baseline=(), leave_out=0, **changes):
    """A cell whose criteria have these outcomes, one for each metric; pass where none is given."""
    asked = asked_of("weights")
    given_ = [*outcomes, *["pass"] * (len(asked) - len(outcomes))]
    found = [make_verdict(metric, outcome, baseline=baseline) for metric, outcome in zip(asked, given_, strict=True)]
    return make_record(verdicts=tuple(found[: len(found) - leave_out]), **changes)


CELLS = {
    "wrong weights": cell(integrity=("Layer 3 is another's.",)),
    "collapsed": cell(coherence=LOOPING),
    "worse than its baseline": cell(baseline=(REGRESSION,)),
    "fails": cell("fail"),
    "anomalous": cell("anomalous"),
    "not judged": cell(*["informational"] * 4),
    "undecided": cell("undecided"),
    "not measured in full": cell(leave_out=1),
    "meets all": cell(),
}


@pytest.mark.parametrize("name", STATES)
def test_each_state_has_a_cell_an_outcome_and_words(name):
    assert states_of(CELLS[name])[0] == state_of(CELLS[name]) == name
    assert outcome_of(CELLS[name]) == OUTCOMES[name]
    assert set(CELLS) == set(STATES) == set(KINDS) == set(OUTCOMES)


def test_what_overrules_comes_first_and_the_others_are_told_too():
    everything = cell(
        "fail", "anomalous", "undecided", integrity=("One.",), coherence=LOOPING, baseline=(REGRESSION,), leave_out=1
    )
    assert states_of(everything) == [name for name in STATES if name not in ("not judged", "meets all")]
    assert states_of(cell()) == ["meets all"]
    assert states_of(make_record())[0] == "not judged"


@given(
    outcomes=st.lists(
        st.sampled_from(["pass", "fail", "undecided", "anomalous", "informational"]), min_size=4, max_size=4
    ),
    leave_out=st.integers(0, 4),
    wrong=st.booleans(),
    collapsed=st.booleans(),
    worse=st.booleans(),
)
def test_answers_suites_badges_and_rows_say_the_same_of_any_cell(outcomes, leave_out, wrong, collapsed, worse):
    record = cell(
        *outcomes,
        baseline=(REGRESSION,) if worse else (),
        leave_out=leave_out,
        integrity=("One.",) if wrong else (),
        coherence=LOOPING if collapsed else None,
    )
    word, suite, shown, (row,) = answer(record).word, judge_suite("int4", [record]), badge([record]), rows([record])
    assert (word == "may ship") == (suite.met == 1) == (shown.outcome == "pass") == (row.outcome == "pass")
    assert (word == "may not ship") == (suite.failed == 1) == (shown.outcome == "fail") == (row.outcome == "fail")
    assert (word == "undecided") == (shown.outcome in ("undecided", "anomalous"))
    assert row.outcome == shown.outcome
    assert suite.met + suite.failed + suite.undecided + suite.anomalous + suite.incomplete == 1
    if wrong or collapsed or (worse and leave_out < 4):
        assert word == "may not ship"


def test_a_suite_says_why_models_do_not_meet_all_though_their_criteria_are_met():
    suite = judge_suite("int4", [CELLS["wrong weights"], CELLS["worse than its baseline"], CELLS["fails"], cell()])
    assert (suite.met, suite.failed) == (1, 3)
    assert "1 of 4 models meet all criteria, 3 do not (of them 1 wrong weights, 1 worse than its baseline)," in (
        suite.sentence
    )


def test_a_figure_that_two_verdicts_of_a_check_carry_is_one():
    changes = (make_change("perplexity"), make_change("kl", "better"), make_change("perplexity", of="fineweb"))
    assert since_baseline(cell(baseline=changes)) == list(changes)
    assert regressions(cell(baseline=changes)) == [changes[0], changes[2]]
    assert since_baseline(cell()) == []


def test_what_one_verdict_found_worse_stays_worse_whatever_another_has():
    other = make_change("size", "no difference can be told")
    verdicts = [make_verdict("size_reduction_percent", baseline=(each,)) for each in (other, REGRESSION, other)]
    assert since_baseline(make_record(verdicts=tuple(verdicts))) == [REGRESSION]
    assert since_baseline(make_record(verdicts=tuple(verdicts[::-1]))) == [REGRESSION]


def test_whether_speed_is_judged_is_told_by_the_machine():
    assert not judges_speed(make_record(machine=CPU))
    assert judges_speed(make_record(machine=dataclasses.replace(CPU, judges_speed=True)))  # on a CPU all the same
    assert judges_speed(make_record(machine=dataclasses.replace(CPU, judges_speed=None)))
    assert judges_speed(make_record(machine=None))
