"""In a workflow of GitHub Actions: annotations on the page of its run, and a job summary.

GitHub sets GITHUB_ACTIONS there, and says by GITHUB_STEP_SUMMARY which file a step's summary goes to. Elsewhere nothing
happens. Workflow commands have to begin a line, so they are printed when pytest's dots are done.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_quantbench.plugin.option_names import as_typed
from pytest_quantbench.plugin.outcomes import NEITHER
from pytest_quantbench.plugin.telling import FIELD

if TYPE_CHECKING:
    from pytest_quantbench.judge.verdict import Verdict
    from pytest_quantbench.record.schema import Record
    from pytest_quantbench.record.suite import SuiteVerdict

RUNS_THERE, SUMMARY_FILE, CHECKOUT = "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"  # in the environment


class Github:
    """What one session tells GitHub."""

    NAME = "quantbench-github"

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_there = os.environ.get(RUNS_THERE) == "true"
        self._annotations: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep an annotation of a test that failed, at its place: by a verdict, or since it could not be measured."""
        happened = getattr(report, FIELD, None)
        if happened is not None and happened["failure"]:
            self._add("error", happened["failure"], happened["cell"], report)

    def pytest_quantbench_verdict(
        self, cell: str | None, verdict: Verdict | SuiteVerdict, test_report: pytest.TestReport
    ) -> None:
        """Keep an annotation of a verdict that is open and fails nothing."""
        from pytest_quantbench.report.terminal import explain

        if verdict.outcome in NEITHER and not test_report.failed:
            told = as_typed(self._config, f"{verdict.outcome}: {explain(verdict)}")
            self._add("warning", told, cell or getattr(verdict, "recipe", None), test_report)

    def _add(self, level: str, told: str, title: str | None, report: pytest.TestReport) -> None:
        from pytest_quantbench.report import github

        if self._is_there:
            place = _place(self._config, report)
            self._annotations.append(github.annotation(level, told, title or "quantbench", *place))

    def pytest_quantbench_report(self, records: Sequence[Record]) -> list[str]:
        """Append to the job summary."""
        from pytest_quantbench.report import github

        if not (file := os.environ.get(SUMMARY_FILE, "")):
            return []
        path = Path(file)
        try:
            taken = path.stat().st_size if path.exists() else 0
            with path.open("a", encoding="utf-8", newline="\n") as summary:
                summary.write(github.fitting(github.summary(records), taken))
        except OSError as error:
            return [f"{SUMMARY_FILE}={file} cannot be written ({error.strerror}): this run has no job summary."]
        return []

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the annotations, which GitHub takes out of the log."""
        if not self._annotations:
            return
        from pytest_quantbench.report import github

        for line in github.shown(self._annotations):
            terminalreporter.write_line(line)


def _place(config: pytest.Config, test_report: pytest.TestReport) -> tuple[str | None, int | None]:
    """The file of a test in the repository, and its line from 1 on; nothing for one that is not in the checkout, such
    as one of the installed suite.
    """
    file, line, _ = test_report.location
    path, root = config.rootpath / file, Path(os.environ.get(CHECKOUT) or config.rootpath)
    if not path.resolve().is_relative_to(root.resolve()):
        return None, None
    return path.resolve().relative_to(root.resolve()).as_posix(), None if line is None else line + 1
