"""What becomes of an item with a cell: skipped, undecided, an error in one sentence; and when its cell is done with.

As light as the plugin, which registers it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator

import pytest

from pytest_quantbench.plugin.fixtures import OUTCOME, close_after
from pytest_quantbench.plugin.items import parameters


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("t1") and parameters(item) and hasattr(item.config, "workerinput"):
        pytest.skip("T1 refuses to run under pytest-xdist: timing beside other load is worthless")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """The last item of a cell writes its record, and the last of a model lets go of it: what goes wrong there is told
    with this item. pytest would end both in the setup of the next model's first item, and fail that.
    """
    try:
        return (yield)
    finally:
        if parameters(item) is not None:
            close_after(item, nextitem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and "pytest_quantbench.errors" in sys.modules:
        from pytest_quantbench.errors import QuantbenchError

        raised = call.excinfo.value
        several = raised.exceptions if isinstance(raised, BaseExceptionGroup) else (raised,)
        if all(isinstance(error, QuantbenchError) for error in several):  # its message says it all: no traceback
            report.longrepr = "\n".join(f"{type(error).__name__}: {error}" for error in several)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    if report.when == "call" and report.passed and (OUTCOME, "undecided") in map(tuple, report.user_properties):
        return "undecided", "u", ("UNDECIDED", {"yellow": True})
    return None
