"""`--baseline`: refused before the first item where it has nothing to compare, and settled at a session's end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.errors import QuantbenchError

if TYPE_CHECKING:
    from pytest_quantbench.plugin.run import Run


def prepare(run: Run, cells: Sequence[tuple[Model, Recipe]]) -> None:
    """Count the figures that this session compares with the baseline, which share the error probability. Raises
    QuantbenchError where the baseline has no readable record of any of these cells.
    """
    from pytest_quantbench.record.baseline import Baseline
    from pytest_quantbench.record.schema import file_stem

    if run.settings.baseline is None:
        return
    stored = Baseline(run.settings.baseline)
    stems = [file_stem(model.name, recipe.id, recipe.bits) for model, recipe in cells]
    stored.refuse_strangers(stems)
    run.settings = replace(run.settings, baseline_figures=stored.figures(stems))


def settle(session: pytest.Session, run: Run) -> list[str]:
    """Settle all figures of a session against its baseline; returns why it fails, beside what got worse. It also fails
    where nothing of a cell could be compared: a gate that compares nothing must not look as if it had.
    """
    from pytest_quantbench.record.baseline import Baseline

    if run.settings.baseline is None:
        return []
    told = []
    try:
        held = Baseline(run.settings.baseline).settle_all(dict.fromkeys(run.written))
    except QuantbenchError as error:
        told.append(f"{type(error).__name__}: {error}")
    else:
        if held.uncompared:
            told.append(f"Nothing of {', '.join(held.uncompared)} could be compared with the baseline: the run fails.")
        if not held.comparison.cells:
            told.append("No cell of this session could be held against the baseline: the run fails.")
    if told or held.comparison.regressions:
        _fail(session)
    return told


def _fail(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
