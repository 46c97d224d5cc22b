import dataclasses
from types import SimpleNamespace

import pytest
from builders import make_verdict

from pytest_quantbench.plugin import unsettled
from pytest_quantbench.plugin.telling import FIELD

GATE = """
    import dataclasses

    def test_perplexity(cell, settle):
        verdict = cell.judge("perplexity")
        needed = "about 4,781 tokens would settle it" + "." * 90
        settle(dataclasses.replace(verdict, outcome="undecided", needed=needed))

    def test_better(cell, settle):
        settle(dataclasses.replace(cell.judge("size"), outcome="anomalous", sentence="It is better."))
"""
QUICK = ("-k", "Tiny", "-m", "int4", "--fixed")
HEADING = "undecided or anomalous, and why"


@pytest.mark.parametrize("asked", ["-ra", "-rx", "-rA"])
def test_who_asks_why_items_did_not_pass_reads_a_line_for_each(suite, asked, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    result = suite(GATE, *QUICK, asked)
    result.stdout.fnmatch_lines(
        [
            f"*= {HEADING} =*",
            "ANOMALOUS test_gate.py::test_better[[]Tiny-int4[]] - It is better.",
            "UNDECIDED test_gate.py::test_perplexity[[]Tiny-int4[]] - about 4,781 tokens w*...",
        ]
    )
    assert all(len(line) <= 80 for line in result.outlines if line.startswith("UNDECIDED"))


def test_who_does_not_ask_reads_none(suite):
    assert HEADING not in suite(GATE, *QUICK).stdout.str()


def test_a_ci_has_whole_lines():
    report = SimpleNamespace(nodeid="test_gate.py::test_it", **{FIELD: {"verdicts": []}})
    verdict = dataclasses.asdict(make_verdict("perplexity_delta", "undecided", needed="x" * 200))
    getattr(report, FIELD)["verdicts"].append(verdict)
    line = unsettled._line(report, "undecided")
    assert line == f"UNDECIDED test_gate.py::test_it - {'x' * 200}"
    assert unsettled._within(line, None) == line
    assert unsettled._within(line, 80) == f"{line[:77]}..."
