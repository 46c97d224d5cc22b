"""Which items a pytest command line selects, as pytest itself would collect them; none is run."""

import contextlib
import io
from collections.abc import Sequence

import pytest

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plan.selection import Selection
from pytest_quantbench.plugin.item_needs import cells_of, is_ours
from pytest_quantbench.plugin.option_names import option_prefix
from pytest_quantbench.plugin.run import run_of
from pytest_quantbench.plugin.suite import QUIET_ON_IMPORTS, command_line

QUIETLY = ("--collect-only", "-q", "-p", "no:cacheprovider", *QUIET_ON_IMPORTS)


class _Listener:
    """Reads off the selection when everything is collected, and what was not selected is gone."""

    def __init__(self) -> None:
        self.found: Selection | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """pytest's hook."""
        if cells := cells_of(session.items):
            self.found = Selection(
                settings=run_of(session.config).settings,
                cells=cells,
                checks=frozenset(mark.name for item in session.items if is_ours(item) for mark in item.iter_markers()),
                option_prefix=option_prefix(session.config),
            )


def collect(arguments: Sequence[str]) -> Selection:
    """What pytest would run with these arguments. Raises QuantbenchError with what pytest says where it fails."""
    listener, said = _Listener(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main([*arguments, *QUIETLY], plugins=[listener])
    command = command_line(arguments)
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        lines = [line for line in said.getvalue().splitlines() if line.strip()]
        raise QuantbenchError(f"{command} cannot collect: {' '.join(lines[-3:])}")
    if listener.found is None:
        raise QuantbenchError(f"{command} selects no cell. Name a folder of tests, look at -k and -m.")
    return listener.found
