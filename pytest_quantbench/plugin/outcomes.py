"""What becomes of an item with a cell: skipped, undecided, anomalous, an error in one sentence; when the cell is done.

Registered as a plugin of its own when the first test asks for a fixture of ours. Importing it is light: pytest-xdist's
controller asks it what a report means.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_quantbench.plugin.item_needs import is_ours, parameters
from pytest_quantbench.plugin.option_names import as_typed
from pytest_quantbench.plugin.telling import enclose

OUTCOME = "quantbench_outcome"
YELLOW = {"yellow": True}
NEITHER = {  # what pytest is told of verdicts that are neither good nor bad; the first that a test has counts
    "anomalous": ("anomalous", "a", ("ANOMALOUS", YELLOW)),
    "undecided": ("undecided", "u", ("UNDECIDED", YELLOW)),
}
FIRST = pytest.StashKey[dict[str, tuple[str, str]]]()  # by what was said: id and name of the first item of which it was
TIMED = {"t1": "T1", "runtime": "A candidate's runtime", "load": "Loading", "sweep": "The sweep"}  # by marker


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
    """A failed verdict and an error of ours say it all in their message: no traceback, and in the short summary no more
    than what is wrong. An error that an item before had too, such as a model that is refused, is told by that item.
    """
    report = yield
    if is_ours(item):
        raised = None if call.excinfo is None else call.excinfo.value
        told = "" if raised is None else as_typed(item.config, _refusal(raised))
        if told:
            told = _told_once(item, told)
        elif isinstance(raised, pytest.fail.Exception) and not raised.pytrace:
            told = str(raised)
        if told:
            report.longrepr = told
        enclose(item, report, told)
    return report


def _refusal(raised: BaseException) -> str:
    """What errors of this package say; nothing for what others raise."""
    from pytest_quantbench.errors import QuantbenchError

    several = raised.exceptions if isinstance(raised, BaseExceptionGroup) else (raised,)
    if not all(isinstance(error, QuantbenchError) for error in several):
        return ""
    return "\n".join(f"{type(error).__name__}: {error}" for error in several)


def _told_once(item: pytest.Item, told: str) -> str:
    """What is told of an item: the whole of it, or which item of this process it was told with."""
    nodeid, name = item.config.stash.setdefault(FIRST, {}).setdefault(told, (item.nodeid, item.name))
    return told if nodeid == item.nodeid else f"{told.partition(':')[0]}, as with {name}"


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """A verdict that is undecided or anomalous passes, under a name of its own."""
    if report.when != "call" or not report.passed:
        return None
    found = set(map(tuple, report.user_properties))
    return next((told for outcome, told in NEITHER.items() if (OUTCOME, outcome) in found), None)
