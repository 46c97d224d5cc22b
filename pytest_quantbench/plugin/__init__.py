"""The pytest side: options, parametrization, fixtures, outcomes, summary. No arithmetic.

Loaded in every pytest run of the environment, so importing it loads the standard library and pytest only; everything
else is imported when a test asks for a cell.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from pytest_quantbench.plugin import fixtures, outcomes
from pytest_quantbench.plugin.fixtures import run_of
from pytest_quantbench.plugin.items import cells_of, expected, is_wanted, needs_suite, parameters, spellings
from pytest_quantbench.plugin.notices import PACKAGE, Notices
from pytest_quantbench.plugin.options import MARKERS, PREFIX, SHORT_PREFIX, add_options, are_given

if TYPE_CHECKING:
    from pytest_quantbench.plugin.run import Run

NOTICES = pytest.StashKey[Notices]()
TERMINAL = pytest.StashKey[TextIO]()  # where progress is shown


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser, PREFIX)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(fixtures, "quantbench-fixtures")
    config.pluginmanager.register(outcomes, "quantbench-outcomes")
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.stash[NOTICES] = Notices()
    logging.getLogger(PACKAGE).addHandler(config.stash[NOTICES])
    short = config.pluginmanager.hasplugin("pytest_quantbench.plugin.short_options")  # else such names are another's
    if are_given(config.invocation_params.args, (PREFIX, SHORT_PREFIX) if short else (PREFIX,)):
        run_of(config)  # a wrong name or number is a usage error, before anything is collected
    with suppress(OSError, ValueError):  # a stream without a file has nothing to keep
        config.stash[TERMINAL] = os.fdopen(os.dup(sys.stderr.fileno()), "w")  # now: capture hides it from the tests


def pytest_unconfigure(config: pytest.Config) -> None:
    if NOTICES in config.stash:
        logging.getLogger(PACKAGE).removeHandler(config.stash[NOTICES])
    if TERMINAL in config.stash:
        if "pytest_quantbench.progress" in sys.modules:
            from pytest_quantbench import progress

            progress.show_on(None)
        config.stash[TERMINAL].close()


def run_so_far(config: pytest.Config) -> Run | None:
    """This session's Run if any test asked for a cell."""
    if "pytest_quantbench.plugin.run" not in sys.modules:
        return None
    from pytest_quantbench.plugin.run import RUN

    return config.stash.get(RUN, None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "quantbench_subject" in metafunc.fixturenames:
        from pytest_quantbench.plugin import run as selection

        marker = metafunc.definition.get_closest_marker("quantbench")
        models, recipes = selection.wanted(run_of(metafunc.config), marker.kwargs if marker else {})
        cells = [pytest.param(r, id=name, marks=getattr(pytest.mark, r.level)) for name, r in recipes.items()]
        subjects = [pytest.param(model, id=None if name.isprintable() else name) for name, model in models.items()]
        metafunc.parametrize("quantbench_subject", subjects, indirect=True, scope="session")
        metafunc.parametrize("cell", cells, indirect=True, scope="session")
    elif "quantbench_records" in metafunc.fixturenames:
        from pytest_quantbench.catalog.criteria import CRITERIA

        judged = {name: each.level for name, each in run_of(metafunc.config).recipes.items() if each.level in CRITERIA}
        levels = judged or {level: level for level in CRITERIA}
        chosen = [pytest.param(name, id=name, marks=getattr(pytest.mark, level)) for name, level in levels.items()]
        metafunc.parametrize("suite", chosen, indirect=True)
    elif "quantbench_codec" in metafunc.fixturenames:
        from pytest_quantbench import quantizers

        run_of(metafunc.config)  # wrong options are refused here too
        group = pytest.mark.xdist_group("codecs")  # they write one file
        names = [pytest.param(name, id=name, marks=group) for name in quantizers.names() if name != "identity"]
        metafunc.parametrize("quantbench_codec", names, indirect=True)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """A model's own name: of ids that are given, pytest escapes what is not ASCII, and `-k` would not find it."""
    return getattr(val, "name", None) if argname == "quantbench_subject" else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Model by model, then recipe, then test, so that every model is fetched, compressed and dropped once.

    Sorted after pytest has had its say, which goes back and forth through the recipes.
    """
    run = run_so_far(config)
    if run is None:
        return (yield)
    from pytest_quantbench.plugin import run as selection

    try:
        selection.check_marker_expression(config, items)
    except pytest.UsageError:
        items.clear()  # pytest still calls pytest_collection_finish, whose own complaints would hide this one
        raise

    told = config.getoption("markexpr") or ""
    kept = [item for item in items if is_wanted(item, run.settings.disk_plan, selftest="selftest" in told)]
    if left_out := [item for item in items if item not in kept]:
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)

    def place(item: pytest.Item) -> tuple[int, int, int]:
        if needs_suite(item):
            return 2, 0, 0
        needed = parameters(item)
        return (0, 0, 0) if needed is None else (1, *run.place(*needed))

    for item in items:
        if needs_suite(item):
            item.extra_keyword_matches.update(*map(spellings, run.models))  # `-k Tiny` keeps the suite's own items
        elif (needed := parameters(item)) is not None:
            item.add_marker(pytest.mark.xdist_group(needed[0].name))
            item.extra_keyword_matches.update(spellings(needed[0].name))
    result = yield
    items.sort(key=place)
    return result


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse before the first item: results that cannot be written, too little disk, models that may not be fetched."""
    cells = cells_of(session.items)
    if not cells or session.config.option.collectonly:
        return
    from pytest_quantbench import progress
    from pytest_quantbench.errors import QuantbenchError
    from pytest_quantbench.plan import disk
    from pytest_quantbench.record import folder

    run = run_of(session.config)
    alone = hasattr(session.config, "workerinput") and not session.config.getvalue("loadgroup")
    run.expected = {} if alone else expected(session.items)  # other workers may have the other cells
    settings = run.settings
    progress.show_on(session.config.stash.get(TERMINAL, None))
    try:
        folder.check_writable(settings.results)
        if settings.tasks and any(item.get_closest_marker("t3") for item in session.items if parameters(item)):
            from pytest_quantbench.measures.accuracy import (
                lm_eval_tasks,  # lm-eval takes seconds to import, and T3 imports it anyway
            )

            lm_eval_tasks.check_names(settings.tasks)
        disk.check_session(cells, settings.writes, settings.offline, settings.cache)
    except QuantbenchError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    cells, run = cells_of(items), run_so_far(config)
    if not cells:
        return [] if items or run is None else [f"quantbench: nothing selected; the models are {', '.join(run.models)}"]
    from pytest_quantbench.plan import disk

    settings = run_of(config).settings
    found = disk.obtainable(cells, settings.offline)
    missing = sorted({model.name for model, _ in cells} - {model.name for model, _ in found})
    lacking = [f"quantbench: not here, and --offline forbids fetching: {', '.join(missing)}"] if missing else []
    if run is not None and run.table is not None:
        lacking.append(f"quantbench: [tool.quantbench] of {run.table}")
    told = [*lacking, *disk.describe(found, settings.writes, settings.cache)]
    return [*told, f"quantbench: results go to {settings.results}"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "loadgroup":
        return None
    from pytest_quantbench.plugin.xdist import ByModel

    return ByModel(config, log, lambda: list(run_of(config).models))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """xdist: a worker is done and says which records it wrote, what it took and deleted, and what it warned of."""
    told = getattr(node, "workeroutput", {})
    if "quantbench_written" not in told:  # it had no cell of ours
        return
    run = run_of(node.config)
    run.written += map(Path, told["quantbench_written"])
    run.reused += told["quantbench_reused"]
    run.freed += told["quantbench_freed"]
    node.config.stash[NOTICES].lines += told["quantbench_notices"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    run = run_so_far(session.config)
    if run is not None and hasattr(session.config, "workeroutput"):
        told = {"written": list(map(str, run.written)), "reused": run.reused, "freed": run.freed}
        told["notices"] = session.config.stash[NOTICES].lines
        session.config.workeroutput.update({f"quantbench_{name}": value for name, value in told.items()})
        return
    if run is None or not (run.written or run.selftests):
        return
    from pytest_quantbench.report import publish

    command = shlex.join(["pytest", *session.config.invocation_params.args])
    run.closing = run.selftests or publish.publish(run.written, run.settings, command, run.reused, run.freed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = run_so_far(config)
    if run is None:
        return
    if lines := [*run.closing, *(f"note: {line}" for line in config.stash[NOTICES].lines)]:
        terminalreporter.section("quantbench")
        for line in lines:
            terminalreporter.write_line(line)
