"""What keeps all items of a cell from being set up is told with the first of them; the others are skipped."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_quantbench.plugin.item_needs import parameters


class ToldOnce:
    """The errors of ours that setups of a session ended with, and the item that each was told with."""

    NAME = "quantbench-told-once"

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Skip an item whose setup ends with an error in a sentence (see outcomes) that was told before."""
        report = yield
        if report.when == "setup" and report.failed and isinstance(report.longrepr, str) and parameters(item):
            first = self._told.setdefault(report.longrepr, item.nodeid)
            if first != item.nodeid:
                report.outcome = "skipped"
                report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: for the same reason as {first}")
        return report
