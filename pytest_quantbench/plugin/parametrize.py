"""Which items there are and in which order, and what is refused before the first of them runs.

Loaded when a test asks for a fixture of ours, and `Collection` acts on such items only.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pytest_quantbench import progress, quantizers
from pytest_quantbench.catalog.criteria import CRITERIA
from pytest_quantbench.plugin import against_baseline, outcomes, places
from pytest_quantbench.plugin.item_needs import (
    cells_of,
    expected,
    is_wanted,
    needs_codec,
    needs_suite,
    parameters,
    spellings,
)
from pytest_quantbench.plugin.option_names import as_typed, given
from pytest_quantbench.plugin.recipe_choice import check_marker_expression
from pytest_quantbench.plugin.refusals import refusing
from pytest_quantbench.plugin.run import Run, run_of, wanted
from pytest_quantbench.plugin.session_progress import SessionProgress
from pytest_quantbench.plugin.summary import Summary, show_progress

if TYPE_CHECKING:
    from pytest_quantbench.engines.machine import Machine


def begin(config: pytest.Config) -> None:
    """Register what listens to a session with items of ours, once. Raises UsageError for a wrong name or number."""
    run = run_of(config)
    if not config.pluginmanager.hasplugin(Collection.NAME):
        config.pluginmanager.register(Collection(run), Collection.NAME)
        config.pluginmanager.register(outcomes, "quantbench-outcomes")
        if not hasattr(config, "workerinput"):  # else pytest-xdist's controller has them
            places.register(config)
        config.pluginmanager.register(SessionProgress(run), SessionProgress.NAME)
        counting = ExitStack()
        counting.enter_context(progress.counting())
        config.add_cleanup(counting.close)
        config.pluginmanager.register(Summary(run), Summary.NAME)  # the last to come is the first to be called


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Let a test run over the cells, the levels or the methods that its fixtures range over."""
    run = run_of(metafunc.config)
    for fixture, over in {
        "quantbench_subject": _over_cells,
        "quantbench_records": _over_levels,
        "quantbench_codec": _over_methods,
    }.items():
        if fixture in metafunc.fixturenames:
            over(metafunc, run)


def _over_cells(metafunc: pytest.Metafunc, run: Run) -> None:
    marker = metafunc.definition.get_closest_marker("quantbench")
    models, recipes = wanted(run, marker.kwargs if marker else {})
    cells = [pytest.param(each, id=name, marks=getattr(pytest.mark, each.level)) for name, each in recipes.items()]
    subjects = [pytest.param(model, id=None if name.isprintable() else name) for name, model in models.items()]
    metafunc.parametrize("quantbench_subject", subjects, indirect=True, scope="session")
    metafunc.parametrize("cell", cells, indirect=True, scope="session")


def _over_levels(metafunc: pytest.Metafunc, run: Run) -> None:
    judged = {name: each.level for name, each in run.recipes.items() if each.level in CRITERIA or each.candidate}
    levels = judged or {level: level for level in CRITERIA}
    chosen = [pytest.param(name, id=name, marks=getattr(pytest.mark, level)) for name, level in levels.items()]
    metafunc.parametrize("suite", chosen, indirect=True)


def _is_distributing(config: pytest.Config) -> bool:
    """Whether pytest-xdist is there: without it nobody knows the marker by which it keeps items together."""
    return config.pluginmanager.hasplugin("xdist")


def _over_methods(metafunc: pytest.Metafunc, run: Run) -> None:
    group = [pytest.mark.xdist_group("codecs")] if _is_distributing(metafunc.config) else []  # they write one file
    names = [pytest.param(name, id=name, marks=group) for name in quantizers.names() if name != "identity"]
    metafunc.parametrize("quantbench_codec", names, indirect=True)


class Collection:
    """The hooks of pytest that see what is collected."""

    NAME = "quantbench-collection"

    def __init__(self, run: Run) -> None:
        self._run = run

    def pytest_make_parametrize_id(self, val: object, argname: str) -> str | None:
        """A model's own name: of ids that are given, pytest escapes what is not ASCII, and `-k` would not find it."""
        return getattr(val, "name", None) if argname == "quantbench_subject" else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
        """Model by model, then recipe, then test, so that every model is fetched, compressed and dropped once.

        Sorted after pytest has had its say, which goes back and forth through the recipes.
        """
        try:
            with refusing(config):
                check_marker_expression(config, items)
        except pytest.UsageError:
            items.clear()  # pytest still calls pytest_collection_finish, whose own complaints would hide this one
            raise
        self._leave_out(config, items)
        for item in items:
            self._mark(item)
        result = yield
        items.sort(key=self._place)
        return result

    def _leave_out(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        asked = re.findall(r"\w+", config.getoption("markexpr") or "")
        asked += ["retrieval"] if any(name.startswith("retrieval-") for name in given(config)) else []
        asked += ["sweep"] if self._run.settings.sweep else []
        plan = self._run.settings.disk_plan
        has_runtime = {each.name for each in self._run.candidates if each.runtime is not None}
        kept = [item for item in items if is_wanted(item, plan, asked=asked, runtimes_for=has_runtime)]
        if self._run.candidates:
            kept = [item for item in kept if not needs_codec(item)]  # methods have nothing to do with them
        if left_out := [item for item in items if item not in kept]:
            items[:] = kept
            config.hook.pytest_deselected(items=left_out)

    def _mark(self, item: pytest.Item) -> None:
        """What `-k` and pytest-xdist go by."""
        if needs_suite(item):
            item.extra_keyword_matches.update(*map(spellings, self._run.models))  # `-k Tiny` keeps the suite's items
        elif (needed := parameters(item)) is not None:
            if _is_distributing(item.config):
                item.add_marker(pytest.mark.xdist_group(needed[0].name))
            item.extra_keyword_matches.update(spellings(needed[0].name))

    def _place(self, item: pytest.Item) -> tuple[int, int, int]:
        if needs_suite(item):
            return 2, 0, 0
        needed = parameters(item)
        return (0, 0, 0) if needed is None else (1, *self._run.place(*needed))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse before the first item what cannot end well: results that cannot be written, too little disk, models
        that may not be fetched. A worker of pytest-xdist says before it sends its items which of them go together.
        """
        if hasattr(session.config, "workerinput"):
            from pytest_quantbench.plugin.xdist import tell_groups

            tell_groups(session.config, session.items)
        if not cells_of(session.items) or session.config.option.collectonly:
            return
        alone = hasattr(session.config, "workerinput") and not session.config.getvalue("loadgroup")
        self._run.expected = {} if alone else expected(session.items)  # other workers may have the other cells
        show_progress(session.config)
        with refusing(session.config):
            self._check(session.items)

    def _machine(self) -> Machine:
        from pytest_quantbench import engines
        from pytest_quantbench.engines.machine import describe

        settings = self._run.settings
        return describe(engines.get(settings.engine, settings.activations))

    def _check(self, items: Sequence[pytest.Item]) -> None:
        from pytest_quantbench.bench.criteria import refuse_unmeasured
        from pytest_quantbench.plan import disk
        from pytest_quantbench.record import folder

        settings = self._run.settings
        self._machine()  # what its engine lacks is told of here
        refuse_unmeasured(settings.criteria, [model for model, _ in cells_of(items)], settings)
        folder.check_writable(settings.results)
        if settings.tasks and any(item.get_closest_marker("t3") for item in items if parameters(item)):
            # lm-eval takes seconds to import, and T3 imports it anyway
            from pytest_quantbench.measures.accuracy import lm_eval_tasks

            lm_eval_tasks.check_names(settings.tasks)
        against_baseline.prepare(self._run, cells_of(items))
        disk.check_session(cells_of(items), settings.writes, settings.offline, settings.cache)

    def pytest_report_collectionfinish(self, config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
        """The header: what will be fetched, what disk it takes, what runs the models, where results go."""
        from pytest_quantbench.plan import disk

        run, settings, cells = self._run, self._run.settings, cells_of(items)
        if not cells:
            return [] if items else [f"quantbench: nothing selected; the models are {', '.join(run.models)}"]
        found = disk.obtainable(cells, settings.offline)
        missing = sorted({model.name for model, _ in cells} - {model.name for model, _ in found})
        told = [f"not here, and --offline forbids fetching: {', '.join(missing)}"] if missing else []
        told += [] if run.table is None else [f"[tool.quantbench] of {run.table}"]
        lines = [f"quantbench: {line}" for line in told]
        lines += disk.describe(found, settings.writes, settings.cache)
        lines += [] if config.option.collectonly else [f"quantbench: run by {self._machine().runs_on}"]
        return [as_typed(config, line) for line in [*lines, f"quantbench: results go to {settings.results}"]]
