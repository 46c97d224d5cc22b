"""The pytest side: options, parametrization, fixtures, outcomes, summary. No arithmetic.

Loaded in every pytest run of the environment, so importing it loads the standard library and pytest only; everything
else is imported when a test asks for a cell.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_quantbench.bench import Cell, Subject
    from pytest_quantbench.catalog import Model, Recipe
    from pytest_quantbench.judge import SuiteVerdict
    from pytest_quantbench.record import Verdict
    from pytest_quantbench.settings import Settings

MARKERS = {
    **{level: f"a cell at level {level}" for level in ("bf16", "int8", "int4", "int3", "int2")},
    "t1": "throughput",
    "t2": "perplexity",
    "t3": "accuracy",
    "size": "bytes on disk",
    "weights": "decoded weights against the original ones",
    "quantbench(models=None, recipes=None)": "which models and recipes a test's `cell` runs over (default: all)",
}
PROPERTY = "quantbench_outcome"


@dataclass(slots=True)
class Run:
    """One pytest session's settings and choice, and the records that it wrote."""

    settings: Settings
    models: dict[str, Model]
    recipes: dict[str, Recipe]
    undecided_fails: bool
    written: list[Path] = field(default_factory=list)
    closing: list[str] = field(default_factory=list)  # what the terminal summary says


RUN = pytest.StashKey[Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("quantbench", "is this quantized model still good enough?")
    add = group.addoption
    add("--model", action="append", default=[], metavar="PATH_OR_HUB_ID", help="also run this model (repeatable)")
    add("--recipe", action="append", default=[], metavar="ID", help="such as int4-rtn (repeatable; default: all levels)")
    add("--runs", type=int, default=3, help="T1: runs of each of the five prompts (default 3)")
    add("--tokens", default="512", help="T2: how many tokens of the corpus, or 'all' (default 512)")
    add("--corpus", type=Path, metavar="PATH", help="T2: a UTF-8 text file instead of the model's corpus")
    add("--limit", type=int, default=200, help="T3: questions per task, a seeded sample (default 200)")
    add("--task", action="append", default=[], metavar="NAME", help="T3: an lm-eval task (repeatable)")
    add("--task-data", action="append", default=[], metavar="NAME=FILE.jsonl", help="T3: a task's questions from a file")
    add("--sample-seed", type=int, default=0, help="seed of the sampled questions (default 0)")
    add("--results", type=Path, default=Path("results"), metavar="DIR", help="where records go (default results)")
    add("--undecided", choices=("report", "fail"), default="report", help="what an undecided verdict does to the run")
    add("--offline", action="store_true", help="fetch nothing")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    asked = ("model", "recipe", "task_data")
    if any(config.getoption(name) for name in asked):
        run_of(config)  # a wrong name is a usage error, before anything is collected
    if sys.stderr.isatty():  # kept now, for capture hides it from the tests
        from pytest_quantbench import progress

        progress.show_on(os.fdopen(os.dup(sys.stderr.fileno()), "w"))


def run_of(config: pytest.Config) -> Run:
    """This session's Run, made from the options and `[tool.quantbench]` when first asked for."""
    if RUN not in config.stash:
        from pytest_quantbench.errors import QuantbenchError

        try:
            config.stash[RUN] = _read_options(config)
        except QuantbenchError as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[RUN]


def _read_options(config: pytest.Config) -> Run:
    from pytest_quantbench import quantizers
    from pytest_quantbench.catalog import LEVELS, recipe
    from pytest_quantbench.settings import Settings, all_models, check_criteria, pairs, positive, read_table, token_count

    option = config.getoption
    table = read_table(config.rootpath / "pyproject.toml")
    models = all_models([*table.get("models", []), *option("model")])
    methods = quantizers.names()
    recipes = {name: recipe(name, methods) for name in option("recipe") or LEVELS}
    criteria = table.get("criteria", {})
    check_criteria(criteria, list(models), [*recipes, *(f"{level}-{m}" for level in LEVELS for m in methods)])
    results = config.invocation_params.dir / option("results")
    settings = Settings(
        results=results,
        report=config.rootpath / table["report"] if "report" in table else results / "benchmark_int_quant.md",
        runs=positive("--runs", option("runs")),
        limit=positive("--limit", option("limit")),
        tokens=token_count(option("tokens")),
        seed=option("sample_seed"),
        corpus=option("corpus"),
        tasks=tuple(option("task")),
        task_files=pairs(option("task_data")),
        offline=option("offline"),
        criteria=criteria,
    )
    return Run(settings, models, {"bf16": recipe("bf16", []), **recipes}, option("undecided") == "fail")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "quantbench_subject" in metafunc.fixturenames:
        run = run_of(metafunc.config)
        marker = metafunc.definition.get_closest_marker("quantbench")
        wanted = marker.kwargs if marker else {}
        models = _chosen("model", wanted.get("models"), run.models)
        recipes = _chosen("recipe", wanted.get("recipes"), _with_named(run, wanted.get("recipes")))
        parameters = [pytest.param(recipe, id=name, marks=_marks(recipe)) for name, recipe in recipes.items()]
        metafunc.parametrize("quantbench_subject", list(models.values()), ids=list(models), indirect=True, scope="session")
        metafunc.parametrize("cell", parameters, indirect=True, scope="session")
    elif "suite" in metafunc.fixturenames:
        from pytest_quantbench.catalog import CRITERIA

        levels = [pytest.param(level, id=level, marks=getattr(pytest.mark, level)) for level in CRITERIA]
        metafunc.parametrize("suite", levels, indirect=True)


def _marks(recipe: Recipe) -> list[pytest.MarkDecorator]:
    return [getattr(pytest.mark, recipe.level)]


def _with_named(run: Run, names: Sequence[str] | None) -> dict[str, Recipe]:
    """The session's recipes and those that a test's own marker names."""
    from pytest_quantbench import quantizers
    from pytest_quantbench.catalog import recipe

    methods = quantizers.names() if names else []
    return run.recipes | {name: recipe(name, methods) for name in names or () if name not in run.recipes}


def _chosen(kind: str, names: Sequence[str] | None, available: dict[str, Any]) -> dict[str, Any]:
    from pytest_quantbench.errors import unknown

    for name in names or ():
        if name not in available:
            raise pytest.UsageError(str(unknown(kind, name, list(available))))
    return available if names is None else {name: available[name] for name in names}


def _parameters(item: pytest.Item) -> tuple[Model, Recipe] | None:
    callspec = getattr(item, "callspec", None)
    if callspec is None or "quantbench_subject" not in callspec.params:
        return None
    return callspec.params["quantbench_subject"], callspec.params["cell"]


def cells_of(items: Sequence[pytest.Item]) -> list[tuple[Model, Recipe]]:
    """The different cells that these items need."""
    found = [parameters for parameters in map(_parameters, items) if parameters is not None]
    return list({(model.name, recipe.id): (model, recipe) for model, recipe in found}.values())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Model by model, then recipe, then test, so that every model is fetched, compressed and dropped once."""
    if RUN not in config.stash:
        return
    run = config.stash[RUN]
    models, recipes = list(run.models), list(run.recipes)

    def place(item: pytest.Item) -> tuple[int, int, int]:
        parameters = _parameters(item)
        if parameters is None:
            return (2 if "suite" in getattr(item, "fixturenames", ()) else 0), 0, 0
        model, recipe = parameters
        item.add_marker(pytest.mark.xdist_group(model.name))
        return 1, models.index(model.name), recipes.index(recipe.id) if recipe.id in recipes else len(recipes)

    for item in items:
        if "suite" in getattr(item, "fixturenames", ()):
            item.extra_keyword_matches.update(run.models)  # so that `-k Tiny` keeps the suite's own items
    items.sort(key=place)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse before the first item: a results folder that cannot be written, a disk that cannot hold the session."""
    cells = cells_of(session.items)
    if not cells or session.config.option.collectonly:
        return
    from pytest_quantbench import planning, results
    from pytest_quantbench.errors import QuantbenchError

    settings = run_of(session.config).settings
    try:
        results.check_writable(settings.results)
        planning.check_disk(cells, settings.cache)
    except QuantbenchError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    cells = cells_of(items)
    if not cells:
        return []
    from pytest_quantbench import planning

    settings = run_of(config).settings
    return [*planning.describe(cells, settings.cache), f"quantbench: results go to {settings.results}"]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """xdist: a worker is done and says which records it wrote."""
    run_of(node.config).written += map(Path, getattr(node, "workeroutput", {}).get("quantbench_written", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(RUN, None)
    if run is None or not run.written:
        return
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["quantbench_written"] = list(map(str, run.written))
        return
    from pytest_quantbench import publish

    command = shlex.join(["pytest", *session.config.invocation_params.args])
    run.closing = publish.publish(run.written, run.settings, command)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = config.stash.get(RUN, None)
    if run is not None and run.closing:
        terminalreporter.section("quantbench")
        for line in run.closing:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def quantbench_subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A model of the catalogue or the user's own, fetched when a measure first needs it."""
    from pytest_quantbench.bench import Subject

    subject = Subject(request.param, run_of(request.config).settings)
    yield subject
    _save(request.config, subject.reference)  # measured for the others' sake even where its own tests were not selected


@pytest.fixture(scope="session")
def cell(request: pytest.FixtureRequest, quantbench_subject: Subject) -> Iterator[Cell]:
    """One model × one recipe. What was measured of it is written to the results folder when its last test is done."""
    opened = quantbench_subject.cell(request.param)
    yield opened
    _save(request.config, opened)


def _save(config: pytest.Config, opened: Cell) -> None:
    """Write what was measured of a cell, unless that is written already."""
    from pytest_quantbench import results

    run = run_of(config)
    if opened.unsaved:
        run.written.append(results.save(opened.record(), opened.raw(), run.settings.results))
        opened.unsaved = False


@pytest.fixture
def suite(request: pytest.FixtureRequest) -> SuiteVerdict:
    """The verdict over all models of one level, from the records that this session wrote."""
    if hasattr(request.config, "workerinput"):
        pytest.skip("under pytest-xdist no worker sees all models; the summary and `quantbench report` say it")
    from pytest_quantbench import results
    from pytest_quantbench.judge import judge_suite

    written = run_of(request.config).written
    return judge_suite(request.param, [results.read(path) for path in written])


@pytest.fixture
def settle(request: pytest.FixtureRequest) -> Callable[[Verdict | SuiteVerdict], None]:
    """Turn a verdict into the test's outcome: fail fails with one sentence, undecided is an outcome of its own."""
    run = run_of(request.config)

    def settle_it(verdict: Verdict | SuiteVerdict) -> None:
        from pytest_quantbench.report import explain

        failed = verdict.outcome == "fail" or (verdict.outcome == "undecided" and run.undecided_fails)
        request.node.user_properties.append((PROPERTY, verdict.outcome))
        if failed:
            pytest.fail(f"{verdict.outcome}: {explain(verdict)}", pytrace=False)

    return settle_it


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("t1") and hasattr(item.config, "workerinput"):
        pytest.skip("T1 refuses to run under pytest-xdist: timing beside other load is worthless")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    if call.excinfo is not None and "pytest_quantbench.errors" in sys.modules:
        from pytest_quantbench.errors import QuantbenchError

        if isinstance(call.excinfo.value, QuantbenchError):  # its message says it all: no traceback
            report.longrepr = f"{type(call.excinfo.value).__name__}: {call.excinfo.value}"
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    if report.when == "call" and report.passed and (PROPERTY, "undecided") in map(tuple, report.user_properties):
        return "undecided", "u", ("UNDECIDED", {"yellow": True})
    return None
