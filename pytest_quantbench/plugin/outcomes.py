"""What becomes of an item with a cell: skipped, undecided, anomalous, an error in one sentence; when the cell is done.

Registered as a plugin of its own when the first test asks for a fixture of ours. Importing it is light: pytest-xdist's
controller asks it what a report means.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_quantbench.plugin.item_needs import is_ours, parameters
from pytest_quantbench.plugin.option_names import as_typed

OUTCOME = "quantbench_outcome"
YELLOW = {"yellow": True}
NEITHER = {  # what pytest is told of verdicts that are neither good nor bad; the first that a test has counts
    "anomalous": ("anomalous", "a", ("ANOMALOUS", YELLOW)),
    "undecided": ("undecided", "u", ("UNDECIDED", YELLOW)),
}
TIMED = {"t1": "T1", "runtime": "A candidate's runtime"}  # by marker


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Times that are taken beside other load are worth nothing."""
    timed = next((name for name in TIMED if item.get_closest_marker(name)), None)
    if timed and parameters(item) and hasattr(item.config, "workerinput"):
        pytest.skip(f"{TIMED[timed]} refuses to run under pytest-xdist: timing beside other load is worthless")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """The last item of a cell writes its record, and the last of a model lets go of it: what goes wrong there is told
    with this item. pytest would end both in the setup of the next model's first item, and fail that.
    """
    try:
        return (yield)
    finally:
        if parameters(item) is not None:
            from pytest_quantbench.plugin.closing import close_after

            close_after(item, nextitem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """An error of ours says it all in its message: no traceback."""
    report = yield
    if call.excinfo is not None and is_ours(item):
        from pytest_quantbench.errors import QuantbenchError

        raised = call.excinfo.value
        several = raised.exceptions if isinstance(raised, BaseExceptionGroup) else (raised,)
        if all(isinstance(error, QuantbenchError) for error in several):
            told = "\n".join(f"{type(error).__name__}: {error}" for error in several)
            report.longrepr = as_typed(item.config, told)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """A verdict that is undecided or anomalous passes, under a name of its own."""
    if report.when != "call" or not report.passed:
        return None
    found = set(map(tuple, report.user_properties))
    return next((told for outcome, told in NEITHER.items() if (OUTCOME, outcome) in found), None)
