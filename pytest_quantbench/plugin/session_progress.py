"""Which cell of how many is under way, how long the rest will take, and where the time went."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from pytest_quantbench import progress
from pytest_quantbench.plugin.item_needs import cells_of, is_ours, parameters

if TYPE_CHECKING:
    from pytest_quantbench.catalog.models import Model
    from pytest_quantbench.catalog.recipes import Recipe
    from pytest_quantbench.plugin.run import Run

STAGES = {"t1": "T1", "runtime": "runtime", "load": "load", "sweep": "sweep"}  # what an item itself does, by its marker
JUDGING = "judge"  # what any other does, beside stages that count for themselves
LEAST_LEFT_SECONDS = 60.0  # less is not told


class SessionProgress:
    """Hooks of a session with cells: it says where progress stands, and counts the seconds of each item."""

    NAME = "quantbench-progress"

    def __init__(self, run: Run) -> None:
        self._run = run
        self._cells: list[tuple[Model, Recipe]] = []
        self._checks: frozenset[str] = frozenset()
        self._place = 0
        self._began_seconds = self._cell_seconds = time.monotonic()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Which cells there are, in the order in which they come."""
        self._cells = cells_of(session.items)
        marks = {mark.name for item in session.items if parameters(item) for mark in item.iter_markers()}
        self._checks = frozenset(marks)
        self._began_seconds = self._cell_seconds = time.monotonic()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """All that is done for an item is of its cell."""
        needed = parameters(item)
        if not is_ours(item) or needed is None:
            return (yield)
        model, recipe = needed
        name = f"{model.name}-{recipe.id}"
        self._enter(model, recipe)
        progress.within(f"cell {self._place + 1} of {len(self._cells)} · {name}", self._rest)
        found = next((stage for mark, stage in STAGES.items() if item.get_closest_marker(mark)), JUDGING)
        try:
            with progress.stage(found, name):
                return (yield)
        finally:
            progress.within("")

    def _enter(self, model: Model, recipe: Recipe) -> None:
        place = next(n for n, (m, r) in enumerate(self._cells) if (m.name, r.id) == (model.name, recipe.id))
        _ = self._weights  # read now, and not while anything is measured
        if place != self._place:
            self._place, self._cell_seconds = place, time.monotonic()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """pytest writes."""
        progress.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """pytest writes."""
        progress.clear()

    def _rest(self) -> str:
        """How long the cells that are left will take: `about 2 h for all`; nothing where it is not known or short."""
        now = time.monotonic()
        done, ahead = sum(self._weights[: self._place]), sum(self._weights[self._place :])
        spent = self._cell_seconds - self._began_seconds
        if done and spent:
            left = ahead * spent / done - (now - self._cell_seconds)
        elif self._is_forecast:
            left = ahead - (now - self._cell_seconds)
        else:
            return ""
        return f"about {progress.duration(left)} for all" if left >= LEAST_LEFT_SECONDS else ""

    @cached_property
    def _forecasts(self) -> Sequence[float | None]:
        """Seconds of each cell by what is in the results folder; None where nothing like it was measured."""
        from pytest_quantbench import engines
        from pytest_quantbench.engines.machine import describe
        from pytest_quantbench.errors import QuantbenchError
        from pytest_quantbench.plan.duration import forecast, work
        from pytest_quantbench.record import folder

        try:
            records = folder.read_all(self._run.settings.results)
        except QuantbenchError:  # none yet, or what the end of the session will tell of
            return [None] * len(self._cells)
        settings = self._run.settings
        machine = describe(engines.get(settings.engine, settings.activations))
        found = [forecast(work([cell], self._checks), records, machine) for cell in self._cells]
        return [None if each.unknown else each.seconds for each in found]

    @property
    def _is_forecast(self) -> bool:
        return None not in self._forecasts

    @cached_property
    def _weights(self) -> Sequence[float]:
        """What each cell takes beside the others: its forecast where all have one, else the size of its model."""
        from pytest_quantbench.catalog.disk_plans import bf16_bytes

        if self._is_forecast:
            return [each or 0.0 for each in self._forecasts]
        return [float(bf16_bytes(model)) for model, _ in self._cells]
