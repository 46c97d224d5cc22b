"""What one pytest session runs over: its options and `[tool.quantbench]`, read once into frozen settings."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_quantbench import progress, quantizers
from pytest_quantbench.catalog.criteria import Overrides, limit_key
from pytest_quantbench.catalog.disk_plans import in_order
from pytest_quantbench.catalog.models import Model, all_models, check_models, user_model
from pytest_quantbench.catalog.prices import price_of
from pytest_quantbench.catalog.recipes import REFERENCE, Recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.errors import QuantbenchError, unknown
from pytest_quantbench.plugin import engine_choice, option_values, pyproject_table, recipe_choice, tracking
from pytest_quantbench.plugin.option_names import given, settings_given
from pytest_quantbench.plugin.pyproject_table import SECTION
from pytest_quantbench.plugin.refusals import refusing
from pytest_quantbench.plugin.suite import typed_command
from pytest_quantbench.plugin.summary import Notices, collect_notices, show_progress

if TYPE_CHECKING:
    from pytest_quantbench.bench.cell import Cell
    from pytest_quantbench.bench.subject import Subject
    from pytest_quantbench.plugin.candidates import Opened

T = TypeVar("T")
log = logging.getLogger(__name__)
FEWEST_WINDOWS = 8  # of 64 tokens each, they are the 512 that T2 reads at first
MARKED = ("models", "recipes")  # what the marker of a test takes
LIMITS = {  # by option
    "max-ppl-delta": "perplexity_delta",
    "max-accuracy-drop": "accuracy_drop_points",
    "max-retrieval-drop": "retrieval_drop_points",
    "min-reduction": "size_reduction_percent",
    "min-speedup": "throughput_ratio",
}


@dataclass(slots=True)
class Run:
    """One session's settings and choice, and the records that it wrote."""

    settings: Settings
    models: dict[str, Model]
    recipes: dict[str, Recipe]
    undecided_fails: bool
    notices: Notices
    candidates: "Sequence[Opened]" = ()
    table: Path | None = None  # the pyproject.toml whose [tool.quantbench] holds
    expected: dict[str, list[tuple[Recipe, str]]] = field(default_factory=dict)  # samples, by the model's name
    written: list[Path] = field(default_factory=list)
    opened: dict[str, "Cell"] = field(default_factory=dict)  # by id
    # By name: the model, and what is held while this session works with its files.
    models_in_use: dict[str, "tuple[Subject, ExitStack]"] = field(default_factory=dict)
    freed: int = 0  # bytes of BF16 weights that a disk plan deleted
    reused: list[str] = field(default_factory=list)  # what earlier sessions had measured
    selftests: list[str] = field(default_factory=list)  # their tables
    began_seconds: float = field(default_factory=time.monotonic)
    workers: int = 0  # of pytest-xdist, that have told what they did
    spent: dict[tuple[str, str], float] = field(default_factory=dict)  # seconds by stage and cell

    def place(self, model: Model, chosen: Recipe) -> tuple[int, int]:
        """Where a cell stands in the order of the session; recipes that only a test's marker names come last."""
        names = list(self.recipes)
        models = [each.name for each in in_order(list(self.models.values()), self.settings.disk_plan)]
        return models.index(model.name), names.index(chosen.id) if chosen.id in names else len(names)

    def told(self) -> dict[str, Any]:
        """What a worker of pytest-xdist did, as it can be sent: for `add` in the controller's Run."""
        return {
            "written": list(map(str, self.written)),
            "reused": self.reused,
            "freed": self.freed,
            "notices": self.notices.lines,
            "spent": [[*key, seconds] for key, seconds in progress.spent().items()],
        }

    def add(self, told: Mapping[str, Any]) -> None:
        """Count in what a worker did."""
        self.written += map(Path, told["written"])
        self.reused += told["reused"]
        self.freed += told["freed"]
        self.notices.lines += [line for line in told["notices"] if line not in self.notices.lines]
        self.workers += 1
        self.count({(stage, cell): seconds for stage, cell, seconds in told["spent"]})

    def count(self, spent: Mapping[tuple[str, str], float]) -> None:
        """Count in the seconds of a process."""
        for key, seconds in spent.items():
            self.spent[key] = self.spent.get(key, 0.0) + seconds


RUN = pytest.StashKey[Run]()


def run_of(config: pytest.Config) -> Run:
    """This session's Run, made when first asked for. Raises UsageError for a wrong name or number."""
    if RUN not in config.stash:
        notices = collect_notices(config)
        with refusing(config):
            config.stash[RUN] = _read(config, notices)
    return config.stash[RUN]


def _read(config: pytest.Config, notices: Notices) -> Run:
    """The options and `[tool.quantbench]`. Raises QuantbenchError for what does not exist or does not fit together."""
    told = given(config)
    folder, table = pyproject_table.read_table(config.invocation_params.dir, config.rootpath)
    own = {f"[{SECTION}] models:": [pyproject_table.beside(folder, source) for source in table.get("models", [])]}
    candidates, chosen = _candidates(config)
    models = known = _models(own if candidates else {**own, "--model": told.get("model", ())})
    if chosen is not None:
        models, known = {chosen.name: chosen}, {**known, chosen.name: chosen}
    recipes = {each.name: each.recipe for each in candidates}
    recipes |= recipe_choice.by_name(told.get("recipe", () if candidates else recipe_choice.usual(config)))
    recipe_choice.refuse_caches_of_candidates(candidates, recipes)
    unmatched = pyproject_table.check_criteria(
        table.get("criteria", {}), list(known), [*recipes, *recipe_choice.every()]
    )
    if unmatched:
        log.warning(f"[{SECTION}.criteria]: no model, recipe or candidate of this session is called {unmatched}.")
    tracking.check(told.get("track", ()))
    return Run(
        settings=_settings(config, folder, table, models),
        models=models,
        recipes={"bf16": REFERENCE, **recipes},
        candidates=candidates,
        undecided_fails=told.get("undecided") == "fail",
        notices=notices,
        table=folder / "pyproject.toml" if table else None,
    )


def _candidates(config: pytest.Config) -> "tuple[Sequence[Opened], Model | None]":
    """Those of this session, and the one original that they are compared with; None without candidates."""
    told = given(config)
    if not (sources := told.get("candidate", ())):
        return (), None
    from pytest_quantbench.plugin import candidates

    show_progress(config)  # where they have to be fetched, that is now
    working = ExitStack()
    config.add_cleanup(working.close)
    found = candidates.open_all(
        sources, told.get("offline", False), working, own_config=told.get("candidate-config", False)
    )
    return found, candidates.reference_of(found, told.get("model", ()))


def _overrides(told: Mapping[str, Any], table: Mapping[str, Any]) -> Overrides:
    """The limits that the user gives, by options and in `[tool.quantbench]`."""
    every, one = pyproject_table.candidate_limits(table.get("candidates", {}))
    limits: dict[str, float] = {}
    for option, metric in LIMITS.items():
        found = told.get(option, ())
        several = found if isinstance(found, tuple) else [("", found)]  # repeatable: with names of texts or tasks
        limits |= {limit_key(metric, of): limit for of, limit in several}
    return Overrides(selected=table.get("criteria", {}), candidates=every, candidate=one, session=limits)


def _settings(config: pytest.Config, folder: Path, table: Mapping[str, Any], models: Mapping[str, Model]) -> Settings:
    """What options say, else the defaults; `table` lies in `folder`."""
    told = given(config)
    engine, activations = engine_choice.choice(told, table)
    chosen = settings_given(config) | {"engine": engine, "activations": activations}
    settings = Settings(**_windows(chosen), criteria=_overrides(told, table), command=typed_command(config))
    option_values.check_windows(settings)
    if "max-tokens" in told:
        option_values.check_growth(settings)
    texts, files = told.get("corpus", ()), told.get("task-data", ())
    option_values.check_corpora(texts)
    option_values.check_task_files(files, settings.tasks, models.values())
    results = config.invocation_params.dir / settings.results
    baseline = None if settings.baseline is None else config.invocation_params.dir / settings.baseline
    option_values.check_baseline(baseline, results)
    return replace(
        settings,
        results=results,
        baseline=baseline,
        report=_report(folder, table, results),
        corpus=next(iter(texts), None),
        other_corpora=texts[1:],
        task_files=dict(files),
        price=price_of(told.get("price-per-hour"), told.get("cost-volume"), table.get("cost", {})),
    )


def _windows(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with at least eight windows that are drawn, as few as the usual ones are, unless a number of tokens
    is given; and a check goes on to at least twice as many, unless that is. How many tokens a window scores, a model
    with a short context decides as well.
    """
    if "tokens" in chosen or chosen.get("sampling", "windows") != "windows":
        return dict(chosen)
    most = 0 if "most_tokens" in chosen else 2 * FEWEST_WINDOWS
    return dict(chosen) | {"fewest_windows": FEWEST_WINDOWS, "growing_windows": most}


def _report(folder: Path, table: Mapping[str, Any], results: Path) -> Path | None:
    """Where the project wants its report, if the results are the project's; None: beside them. Results that go
    elsewhere are of a trial, which leaves the project's own report alone.
    """
    inside = Path(os.path.abspath(results)).is_relative_to(folder)
    return folder / table["report"] if "report" in table and inside else None


def _models(sources: Mapping[str, Sequence[str]]) -> dict[str, Model]:
    """The catalogue and the user's own models, whose sources come by where they were given."""
    for place, several in sources.items():
        check_models(several, place)
    return all_models(user_model(source, place) for place, several in sources.items() for source in several)


def wanted(run: Run, marker: Mapping[str, Any]) -> tuple[dict[str, Model], dict[str, Recipe]]:
    """The models and recipes that a test's `quantbench` marker leaves; recipes may be named that the session lacks.

    Raises CollectError, which pytest tells without a traceback, for a name that does not exist.
    """
    try:
        for key in marker:
            if key not in MARKED:
                raise unknown("argument of the quantbench marker", key, MARKED)
        named = {name: run.recipes.get(name) or quantizers.recipe_of(name) for name in marker.get("recipes") or ()}
        return _chosen("model", marker.get("models"), run.models), named or run.recipes
    except QuantbenchError as error:
        raise pytest.Collector.CollectError(str(error)) from error


def _chosen(kind: str, names: Sequence[str] | None, available: dict[str, T]) -> dict[str, T]:
    for name in names or ():
        if name not in available:
            raise unknown(kind, name, list(available))
    return available if names is None else {name: available[name] for name in names}
