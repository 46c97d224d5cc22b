"""When a cell and a model are done with: the record is written, samples and weights are let go of."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pytest_quantbench.plugin.item_needs import parameters
from pytest_quantbench.plugin.run import Run, run_of
from pytest_quantbench.progress import stage
from pytest_quantbench.record import folder

if TYPE_CHECKING:
    from pytest_quantbench.bench.cell import Cell


def close_after(item: pytest.Item, following: pytest.Item | None) -> None:
    """Close the cell and the model of an item that no item behind it needs any more: the next one that has a cell has
    another.
    """
    items = item.session.items
    behind = items[items.index(following) :] if following in items else []
    needed, wanted = parameters(item), next(filter(None, map(parameters, behind)), None)
    if needed is None:
        return
    (model, recipe), (next_model, next_recipe) = needed, wanted or (None, None)
    with ExitStack() as closing:  # all of it, whatever one of them raises
        if next_model is not model:
            closing.callback(close_model, item.session, model.name)
        if next_model is not model or next_recipe != recipe:
            closing.callback(close_cell, run_of(item.config), f"{model.name}-{recipe.id}")


def close_cell(run: Run, name: str) -> None:
    """Write what was measured of a cell and let its samples go: a session goes over many models."""
    opened = run.opened.pop(name, None)
    if opened is not None:
        save(run, opened)


def close_model(session: pytest.Session, name: str) -> None:
    """Write the reference's record, which others' measures may have needed, and delete what a disk plan deletes."""
    run = run_of(session.config)
    if name not in run.models_in_use:
        return
    subject, working = run.models_in_use.pop(name)
    with working:
        run.reused += subject.reused
        save(run, subject.reference)
    if session.exitstatus == pytest.ExitCode.OK and not (session.shouldstop or session.shouldfail):
        run.freed += subject.delete_weights()  # a session that was stopped goes on here next time


def save(run: Run, opened: Cell) -> None:
    """Write what was measured of a cell, unless that is written already."""
    if opened.unsaved and not run.selftests:  # a self-test's samples are not a benchmark's
        with stage("report", opened.id):
            run.written.append(folder.save(opened.record(), opened.raw(), run.settings.results))
        opened.saved()
        opened.criteria.warn_of_unjudged(opened.verdicts.values())
