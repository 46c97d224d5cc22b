"""What a session says of its baseline: each figure is counted once, however many verdicts carry it."""

from pathlib import Path

from builders import make_change, make_record, make_verdict

from pytest_quantbench.report.changes import baseline_lines


def gated(*changes):
    """A cell of which the same check was judged by its own limit and by a test's."""
    verdict = make_verdict("size_reduction_percent", baseline=changes)
    given = make_verdict("size_reduction_percent", baseline=changes, limit=70.0, given=True)
    return make_record(verdicts=(verdict, given))


def test_a_check_with_two_gates_is_one_figure():
    same = make_change("size", "identical", estimate=0.0, low=0.0, high=0.0)
    heading, line = baseline_lines([gated(same)], Path("earlier"))
    assert heading == "baseline earlier:"
    assert "in 1 figure of 1 cell" in line


def test_a_regression_with_two_gates_is_one():
    _, *told = baseline_lines([gated(make_change("size", sentence="size +10.00 %: worse."))], Path("earlier"))
    assert told == ["  1 regression in 1 figure of 1 cell:", "  Tiny-int4 size +10.00 %: worse."]
