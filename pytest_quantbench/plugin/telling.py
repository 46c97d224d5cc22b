"""What happened to items, told to the hooks of `hookspecs` in the process that a user sees.

An item's verdicts and the records that were written meanwhile travel in its test reports: pytest hands those to the
process that shows them, whether that ran the item itself or is pytest-xdist's controller. Importing this is light: the
controller of a session without cells has it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_quantbench.plugin.item_needs import parameters
from pytest_quantbench.plugin.option_names import as_typed

if TYPE_CHECKING:
    from pytest_quantbench.judge.verdict import Verdict
    from pytest_quantbench.record.schema import Record
    from pytest_quantbench.record.suite import SuiteVerdict

FIELD = "quantbench"  # of a test report
SUMMARY = "quantbench-summary"  # the plugin that a session has which had cells, also where others ran them
SETTLED = pytest.StashKey["list[Verdict | SuiteVerdict]"]()
SAID = pytest.StashKey[int]()  # how many of the written records an earlier report of this process has named


def settled(item: pytest.Item, verdict: Verdict | SuiteVerdict) -> None:
    """Keep a verdict for the item's report."""
    item.stash.setdefault(SETTLED, []).append(verdict)


def enclose(item: pytest.Item, report: pytest.TestReport, failure: str) -> None:
    """Put into a report of an item of ours what happened in its phase, in types that pytest-xdist can send. `failure`
    is why the item failed, where a verdict or an error of this package is the reason.
    """
    import msgspec

    from pytest_quantbench.plugin.run import run_of

    verdicts = item.stash.get(SETTLED, []) if report.when == "call" else []
    written, said = run_of(item.config).written, item.config.stash.get(SAID, 0)
    item.config.stash[SAID] = len(written)
    needed = parameters(item)
    happened = {
        "cell": needed and f"{needed[0].name}-{needed[1].id}",
        "verdicts": [msgspec.to_builtins(verdict) for verdict in verdicts],
        "written": list(map(str, written[said:])),
        "failure": failure,
    }
    if verdicts or failure or happened["written"]:
        setattr(report, FIELD, happened)


class Telling:
    """Calls the hooks."""

    NAME = "quantbench-telling"

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._told: set[str] = set()  # paths of records
        self._closing: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell what a phase of an item brought."""
        happened: Mapping[str, Any] | None = getattr(report, FIELD, None)
        if happened is None:
            return
        for told in happened["verdicts"]:
            self._config.hook.pytest_quantbench_verdict(
                config=self._config,
                nodeid=report.nodeid,
                cell=None if "met" in told else happened["cell"],
                verdict=_verdict(told),
                test_report=report,
            )
        self._tell_records(happened["written"])

    def _tell_records(self, written: Iterable[str]) -> None:
        for path in written:
            if (record := self._read(path)) is not None:
                self._config.hook.pytest_quantbench_record(config=self._config, record=record, path=Path(path))

    def _read(self, path: str) -> Record | None:
        """A record; None, with a note in the summary, for one that this process cannot read."""
        from pytest_quantbench.errors import RecordError
        from pytest_quantbench.plugin.run import run_of
        from pytest_quantbench.record.schema import read

        self._told.add(path)
        try:
            return read(Path(path))
        except RecordError as error:
            notes, note = run_of(self._config).notices.lines, f"no hook was told of a record: {error}"
            notes += [] if note in notes else [note]
            return None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Tell the records that were written behind the last report, and that all is over."""
        if not self._config.pluginmanager.hasplugin(SUMMARY):
            return
        from pytest_quantbench.plugin.run import run_of

        run = run_of(self._config)
        if not run.written or run.selftests:
            return
        from pytest_quantbench.record.folder import in_order  # heavy: not where tests are only collected

        self._tell_records(path for path in map(str, run.written) if path not in self._told)
        found = {path: self._read(str(path)) for path in dict.fromkeys(run.written)}
        paths = {id(record): path for path, record in found.items() if record is not None}
        records = in_order([record for record in found.values() if record is not None])
        answers = self._config.hook.pytest_quantbench_report(
            config=self._config,
            records=records,
            paths=[paths[id(record)] for record in records],
            directory=run.settings.results,
        )
        self._closing = [line for lines in answers for line in ([lines] if isinstance(lines, str) else lines)]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """What the hooks' functions answered, below this plugin's own summary."""
        for line in self._closing:
            terminalreporter.write_line(as_typed(config, line))


def _verdict(told: Mapping[str, Any]) -> Verdict | SuiteVerdict:
    """A verdict as it was before it was enclosed; one over models counts those that met all criteria."""
    import msgspec

    from pytest_quantbench.judge.verdict import Verdict
    from pytest_quantbench.record.suite import SuiteVerdict

    return msgspec.convert(told, SuiteVerdict) if "met" in told else msgspec.convert(told, Verdict)
