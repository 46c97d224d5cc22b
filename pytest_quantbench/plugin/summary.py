"""What a session with cells says: progress while it runs, and at its end the summary, with what modules warned of."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, TextIO

import pytest

from pytest_quantbench import progress
from pytest_quantbench.plugin.option_names import as_typed

if TYPE_CHECKING:
    from pytest_quantbench.plugin.run import Run
    from pytest_quantbench.record.schema import Record

PACKAGE = __name__.partition(".")[0]


class Notices(logging.Handler):
    """Collects the warnings of this package, each once, in the order in which they came: pytest hides the log of tests
    that pass.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        if (line := record.getMessage()) not in self.lines:
            self.lines.append(line)


def collect_notices(config: pytest.Config) -> Notices:
    """What this package warns of from now to the end of the session."""
    notices, logger = Notices(), logging.getLogger(PACKAGE)
    logger.addHandler(notices)
    config.add_cleanup(lambda: logger.removeHandler(notices))
    return notices


def show_progress(config: pytest.Config) -> None:
    """Hand the terminal to the work that takes long, until the session is over: pytest captures what tests write."""
    stream = _uncaptured(config)
    if stream is not None:
        config.add_cleanup(stream.close)
    progress.show_on(stream)
    config.add_cleanup(lambda: progress.show_on(None))  # called first: the last one in


def _uncaptured(config: pytest.Config) -> TextIO | None:
    """A copy of standard error as it is outside of pytest's capture; None where it is no file."""
    capture = config.pluginmanager.getplugin("capturemanager")
    released = nullcontext() if capture is None else capture.global_and_fixture_disabled()
    with released, suppress(OSError, ValueError):  # what a stream without a file raises
        return os.fdopen(os.dup(sys.stderr.fileno()), "w")
    return None


class Summary:
    """The end of a session: its files, and what the terminal says of them. Under pytest-xdist a worker only tells the
    controller what it has done.
    """

    NAME = "quantbench-summary"

    def __init__(self, run: Run) -> None:
        self._run = run
        self._records: list[Record] = []
        self._closing: list[str] = []

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Publish what was measured, or the self-tests' tables."""
        run = self._run
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["quantbench"] = run.told()
        elif run.selftests:
            self._closing = run.selftests
        elif run.written:
            from pytest_quantbench.plan.duration import where_it_went
            from pytest_quantbench.plugin import against_baseline
            from pytest_quantbench.report import changes, publish

            with progress.stage("report"):
                failing = against_baseline.settle(session, run)
                self._records, lines = publish.publish(run.written, run.settings, run.reused, run.freed)
                baseline = run.settings.baseline
                held = [] if baseline is None else changes.baseline_lines(self._records, baseline)
                self._closing = [*held, *failing, *lines]
            run.count(progress.spent())
            self._closing += where_it_went(run.spent, time.monotonic() - run.began_seconds, max(1, run.workers))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """One section, where there is anything to say."""
        lines = [*self._closing, *(f"note: {line}" for line in self._run.notices.lines)]
        if not lines and not self._records:
            return
        terminalreporter.section("quantbench")
        if self._records:
            from pytest_quantbench.report import coloured, terminal

            writer = config.get_terminal_writer()
            for line in terminal.summary(self._records, writer.fullwidth, lambda text: as_typed(config, text)):
                terminalreporter.write_line(coloured.as_text(line, colours=writer.hasmarkup))
        for told in lines:
            terminalreporter.write_line(as_typed(config, told))
