"""What one pytest session runs over: its options and `[tool.quantbench]`, read once into frozen settings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.disk_plans import disk_plan, in_order
from pytest_quantbench.catalog.models import Model, all_models, check_models, user_model
from pytest_quantbench.catalog.recipes import LEVELS, REFERENCE, Recipe
from pytest_quantbench.catalog.settings import (
    Settings,
    above_zero,
    at_least,
    corpora,
    named_text,
    positive,
    seed,
    strided,
    task_files,
    token_count,
)
from pytest_quantbench.errors import QuantbenchError, unknown
from pytest_quantbench.plugin.options import dest
from pytest_quantbench.plugin.pyproject_table import SECTION, beside, check_criteria, read_table
from pytest_quantbench.storage.files import GB

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pytest_quantbench.bench.cell import Cell
    from pytest_quantbench.bench.subject import Subject

T = TypeVar("T")


@dataclass(slots=True)
class Run:
    """One session's settings and choice, and the records that it wrote."""

    settings: Settings
    models: dict[str, Model]
    recipes: dict[str, Recipe]
    undecided_fails: bool
    table: Path | None = None  # the pyproject.toml whose [tool.quantbench] holds
    expected: dict[str, list[tuple[Recipe, str]]] = field(default_factory=dict)  # samples, by the model's name
    written: list[Path] = field(default_factory=list)
    opened: dict[str, "Cell"] = field(default_factory=dict)  # by id
    # By name: the model, and what is held while this session works with its files.
    models_in_use: dict[str, "tuple[Subject, ExitStack]"] = field(default_factory=dict)
    freed: int = 0  # bytes of BF16 weights that a disk plan deleted
    reused: list[str] = field(default_factory=list)  # what earlier sessions had measured
    selftests: list[str] = field(default_factory=list)  # their tables
    closing: list[str] = field(default_factory=list)  # what the terminal summary says

    def place(self, model: Model, chosen: Recipe) -> tuple[int, int]:
        """Where a cell stands in the order of the session; recipes that only a test's marker names come last."""
        names = list(self.recipes)
        models = [each.name for each in in_order(list(self.models.values()), self.settings.disk_plan)]
        return models.index(model.name), names.index(chosen.id) if chosen.id in names else len(names)


RUN = pytest.StashKey[Run]()


def run_of(config: pytest.Config) -> Run:
    """This session's Run, made when first asked for. Raises UsageError for a wrong name or number."""
    if RUN not in config.stash:
        try:
            config.stash[RUN] = _read_options(config)
        except QuantbenchError as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[RUN]


def _read_options(config: pytest.Config) -> Run:
    def option(name: str) -> Any:
        return config.getoption(dest(name))

    folder, table = read_table(config.invocation_params.dir, config.rootpath)
    models = _models(
        {f"[{SECTION}] models:": [beside(folder, s) for s in table.get("models", [])], "--model": option("model")}
    )
    methods = quantizers.names()
    recipes = {name: quantizers.recipe_of(name) for name in option("recipe") or LEVELS}
    criteria = table.get("criteria", {})
    check_criteria(criteria, list(models), [*recipes, *(f"{level}-{m}" for level in LEVELS for m in methods)])
    texts = corpora(option("corpus"))
    results = config.invocation_params.dir / (option("results") or "results")
    settings = Settings(
        results=results,
        report=folder / table["report"] if "report" in table else results / "benchmark_int_quant.md",
        runs=positive("--runs", option("runs")),
        limit=positive("--limit", option("limit")),
        tokens=token_count("--tokens", option("tokens")),
        sampling=option("sampling"),
        context=option("context"),
        stride=strided(option("context"), option("stride"), option("sampling")),
        fixed=option("fixed"),
        most_tokens=at_least(option("max-tokens"), option("tokens")),
        time_budget_seconds=(
            None if (minutes := option("time-budget")) is None else 60 * above_zero("--time-budget", minutes)
        ),
        memory_bytes=round(GB * above_zero("--memory", option("memory"))),
        seed=seed("--sample-seed", option("sample-seed")),
        corpus=next(iter(texts), None),
        other_corpora=texts[1:],
        calibration=named_text("--calibration", option("calibration"), "none", "self"),
        calibration_sequences=(
            None
            if (sequences := option("calibration-sequences")) is None
            else positive("--calibration-sequences", sequences)
        ),
        tasks=tuple(option("task")),
        task_files=task_files(option("task-data"), option("task"), models.values()),
        run_code=option("run-code"),
        fresh=option("fresh"),
        offline=option("offline"),
        disk_plan=disk_plan(option("disk-plan")),
        keep_compressed=option("keep-compressed"),
        criteria=criteria,
    )
    with_reference = {"bf16": REFERENCE, **recipes}
    source = folder / "pyproject.toml" if table else None
    return Run(settings, models, with_reference, option("undecided") == "fail", source)


def _models(sources: Mapping[str, Sequence[str]]) -> dict[str, Model]:
    """The catalogue and the user's own models, whose sources come by where they were given."""
    for given, several in sources.items():
        check_models(several, given)
    return all_models(user_model(source, given) for given, several in sources.items() for source in several)


def check_marker_expression(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Raise UsageError if `-m` names a marker neither registered nor in use: pytest would quietly select nothing."""
    registered = {line.partition(":")[0].partition("(")[0].strip() for line in config.getini("markers")}
    used = {mark.name for item in items for mark in item.iter_markers()}
    words = set(re.findall(r"[A-Za-z_]\w*", config.getoption("markexpr") or ""))
    for word in sorted(words - registered - used - {"and", "or", "not", "True", "False"}):
        raise pytest.UsageError(
            str(unknown("marker", word, [*LEVELS, "t1", "t2", "t3", "size", "weights", "selftest"]))
        )


def wanted(run: Run, marker: Mapping[str, Any]) -> tuple[dict[str, Model], dict[str, Recipe]]:
    """The models and recipes that a test's `quantbench` marker leaves; recipes may be named that the session lacks.

    Raises UsageError for a name that does not exist.
    """
    try:
        named = {name: quantizers.recipe_of(name) for name in marker.get("recipes") or ()}
        return _chosen("model", marker.get("models"), run.models), named or run.recipes
    except QuantbenchError as error:
        raise pytest.UsageError(str(error)) from error


def _chosen(kind: str, names: Sequence[str] | None, available: dict[str, T]) -> dict[str, T]:
    for name in names or ():
        if name not in available:
            raise unknown(kind, name, list(available))
    return available if names is None else {name: available[name] for name in names}
