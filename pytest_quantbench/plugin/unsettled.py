"""Why items are undecided or anomalous, where pytest is asked why items did not pass (`-ra`): it asks that of the
outcomes that it knows, and these two are this plugin's.
"""

from __future__ import annotations

import os
import shutil

import pytest

from pytest_quantbench.plugin.option_names import as_typed
from pytest_quantbench.plugin.outcomes import NEITHER
from pytest_quantbench.plugin.telling import FIELD

ASKED_BY = "x"  # in what `-r` is given, besides `a`: of what ends neither well nor badly, pytest has xfailed


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> object:
    """A line for each of them, behind those of pytest's own outcomes."""
    result = yield
    if not set(config.option.reportchars) & {ASKED_BY, "a", "A"}:
        return result
    width = None if os.environ.get("CI") else shutil.get_terminal_size().columns
    lines = [_line(report, outcome) for outcome in NEITHER for report in terminalreporter.stats.get(outcome, ())]
    if lines:
        terminalreporter.section("undecided or anomalous, and why")
    for line in lines:
        terminalreporter.write_line(_within(as_typed(config, line), width))
    return result


def _line(report: pytest.TestReport, outcome: str) -> str:
    """`UNDECIDED test_gate.py::test_perplexity[Tiny-int4] - About 4,781 tokens would settle it: …`."""
    verdicts = getattr(report, FIELD, {"verdicts": []})["verdicts"]
    told = next((each for each in verdicts if each["outcome"] == outcome), None)
    reason = "" if told is None else f" - {told['needed'] or told['sentence']}"
    return f"{NEITHER[outcome][2][0]} {report.nodeid}{reason}"


def _within(line: str, width: int | None) -> str:
    return line if width is None or len(line) <= width else f"{line[: width - 3]}..."
