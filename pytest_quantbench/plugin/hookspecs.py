"""The hooks of this plugin: what a `conftest.py` or another plugin can be told while a session goes on.

A function with one of these names in a `conftest.py` is called; it takes whichever of the arguments it needs. Each hook
is called in the process that a user sees: under pytest-xdist in the controller, which is told by its workers, and
never in a worker. What happened once is told once, in the order in which this process learns of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_quantbench.judge.verdict import Verdict
    from pytest_quantbench.record.schema import Record
    from pytest_quantbench.record.suite import SuiteVerdict


@pytest.hookspec
def pytest_quantbench_verdict(
    config: pytest.Config,
    nodeid: str,
    cell: str | None,
    verdict: Verdict | SuiteVerdict,
    test_report: pytest.TestReport,
) -> None:
    """A test has settled a verdict with the `settle` fixture. Called when the test's call is over, once for each.

    :param config: The session's configuration.
    :param nodeid: The test that settled it: `test_gate.py::test_size[Tiny-int4]`.
    :param cell: Model and recipe, `Tiny-int4`; None where the verdict is over all models of a recipe.
    :param verdict: What was said: `verdict.outcome` is pass, fail, undecided, anomalous or informational,
        `verdict.sentence` tells it, and a cell's verdict has `metric`, `estimate`, `low`, `high` and `limit` besides.
    :param test_report: pytest's report of the test, with its `location` and `duration`.
    """


@pytest.hookspec
def pytest_quantbench_record(config: pytest.Config, record: Record, path: Path) -> None:
    """A cell's record has been written. Called when the phase of the test in which that happened is over.

    A cell whose tests are spread over workers of pytest-xdist is written by each of them, every time with what the
    others have measured, and told as often. A record that this process cannot read, since it lies on another computer,
    is not told, and the summary has a note on it.

    :param config: The session's configuration.
    :param record: All figures and verdicts of the cell, as they stand in the file.
    :param path: The JSON file; the raw samples lie beside it, with the ending `.npz`.
    """


@pytest.hookspec
def pytest_quantbench_report(
    config: pytest.Config, records: Sequence[Record], paths: Sequence[Path], directory: Path
) -> Sequence[str] | None:
    """The session is over, and its report has been written. Called once, where any record was written.

    :param config: The session's configuration.
    :param records: The records of this session's cells, in the report's order.
    :param paths: The file of each, in the same order.
    :param directory: The results folder, with the report and the records of earlier sessions.
    :return: Lines that shall stand in the terminal at the session's end.
    """
