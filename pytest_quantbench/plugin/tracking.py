"""`--track`: at the end of a session each cell becomes a run of a tracker of experiments.

A tracker is asked for by name and is an extra of this package. Where it keeps runs, it is told by its own environment
variables, such as TRACKIO_DIR or MLFLOW_TRACKING_URI.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from pytest_quantbench.plugin.option_names import given

if TYPE_CHECKING:
    from pytest_quantbench.record.schema import Record

PROJECT = "quantbench"  # what the runs belong to, where the environment names nothing else


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is kept of a cell."""

    name: str
    group: str  # the session
    settings: Mapping[str, str]
    figures: Mapping[str, float]
    words: Mapping[str, str]


def _to_trackio(trackio: Any, run: Run) -> None:
    project = os.environ.get("TRACKIO_PROJECT", PROJECT)
    config = {**run.settings, **run.words}
    trackio.init(project=project, name=run.name, group=run.group, config=config, embed=False, auto_log_gpu=False)
    trackio.log(dict(run.figures))
    trackio.finish()


def _to_mlflow(mlflow: Any, run: Run) -> None:
    if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
        mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=run.name, tags={"session": run.group, **run.words}):
        mlflow.log_params(dict(run.settings))
        mlflow.log_metrics(dict(run.figures))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracker:
    """A package, how a run is written with it, and errors of its own in which that may end, as `module:name`."""

    module: str
    write: Callable[[Any, Run], None]
    errors: tuple[str, ...]


TRACKERS = {
    "trackio": Tracker(module="trackio", write=_to_trackio, errors=("sqlite3:Error",)),
    "mlflow": Tracker(module="mlflow", write=_to_mlflow, errors=("mlflow.exceptions:MlflowException",)),
}


def check(names: Sequence[str]) -> None:
    """Raise QuantbenchError for a tracker that is not installed: now, and not when all has been measured."""
    from pytest_quantbench.errors import QuantbenchError

    for name in names:
        if find_spec(TRACKERS[name].module) is None:
            raise QuantbenchError(
                f"--track {name}: {name} is not installed. Install pytest-quantbench[{name}], or leave out the option."
            )


def pytest_quantbench_report(config: pytest.Config, records: Sequence[Record]) -> list[str]:
    """Write a run for each record, with every tracker that was asked for."""
    return [_tracked(name, records) for name in dict.fromkeys(given(config).get("track", ()))]


def _tracked(name: str, records: Sequence[Record]) -> str:
    tracker, said = TRACKERS[name], io.StringIO()
    module = importlib.import_module(tracker.module)
    errors = tuple(getattr(importlib.import_module(place), error) for place, error in map(_apart, tracker.errors))
    try:
        with redirect_stdout(said):  # what they say of each run
            for record in records:
                tracker.write(module, _run(record))
    except (OSError, ValueError, RuntimeError, *errors) as error:
        return f"--track {name}: {type(error).__name__}: {' '.join(str(error).split())}"
    return f"tracked: {len(records)} runs with {name}"


def _run(record: Record) -> Run:
    from pytest_quantbench.report import runs

    return Run(
        name=runs.name(record),
        group=record.session or "",
        settings=runs.settings(record),
        figures=runs.figures(record),
        words=runs.words(record),
    )


def _apart(place: str) -> tuple[str, str]:
    module, _, name = place.partition(":")
    return module, name
