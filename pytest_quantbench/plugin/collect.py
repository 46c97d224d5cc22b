"""Which items a pytest command line selects, as pytest itself would collect them; none is run."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin.items import cells_of
from pytest_quantbench.plugin.run import run_of

QUIETLY = ("--collect-only", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


@dataclass(slots=True)
class Selection:
    """The cells that a command line selects, the checks that any item makes (`t1`, …), and the session's options."""

    settings: Settings = field(default_factory=Settings)
    cells: list[tuple[Model, Recipe]] = field(default_factory=list)
    checks: set[str] = field(default_factory=set)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """pytest's hook: everything is collected, what was not selected is gone."""
        self.settings = run_of(session.config).settings
        self.cells = cells_of(session.items)
        self.checks = {mark.name for item in session.items for mark in item.iter_markers()}


def collect(arguments: Sequence[str]) -> Selection:
    """What pytest would run with these arguments. Raises QuantbenchError with what pytest says where it fails."""
    found, said = Selection(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main([*arguments, *QUIETLY], plugins=[found])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        lines = [line for line in said.getvalue().splitlines() if line.strip()]
        raise QuantbenchError(f"pytest cannot collect {' '.join(arguments)}: {' '.join(lines[-3:])}")
    if not found.cells:
        raise QuantbenchError(
            f"pytest {' '.join(arguments)} selects no cell. Name a folder of tests, look at -k and -m."
        )
    return found
