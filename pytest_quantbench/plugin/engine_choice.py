"""Which engine and activations hold: an option goes before the environment, that before `[tool.quantbench]`, and that
before `auto`. What cannot be had is refused at once, and where it was said is told.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_quantbench import engines
from pytest_quantbench.catalog.settings import ENVIRONMENT, default_engine
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin import pyproject_table
from pytest_quantbench.plugin.pyproject_table import SECTION
from pytest_quantbench.plugin.refusals import refusing

if TYPE_CHECKING:
    from pytest_quantbench.engines.protocol import Activations

KEYS = ("engine", "activations")


def choice(told: Mapping[str, Any], table: Mapping[str, Any]) -> "tuple[str, Activations]":
    """The engine's name, or `auto`, and the activations, by what options `told` (by name) and the table say.

    Raises QuantbenchError for an engine that cannot be had with these activations: nothing is imported for that.
    """
    options = {key: told[key] for key in KEYS if told.get(key) is not None}
    found = pyproject_table.session_defaults({key: each for key, each in table.items() if key not in options}) | options
    engine, activations = found.get("engine", default_engine()), found.get("activations", "float32")
    try:
        engines.chosen(engine, activations)
    except QuantbenchError as error:
        said = {key: f"[{SECTION}] has {key} = {table[key]!r}" for key in KEYS if key in table}
        if os.environ.get(ENVIRONMENT):
            said["engine"] = f"the environment variable {ENVIRONMENT} is {engine!r}"
        where = "; ".join(said[key] for key in said if key not in options and ENVIRONMENT not in str(error))
        raise type(error)(f"{error} ({where})" if where else str(error)) from error
    return engine, activations


def of_command(engine: str | None, activations: str | None = None) -> "tuple[str, Activations]":
    """The same for a command that is run in the current folder; None: its option was not given."""
    _, table = pyproject_table.read_table(Path.cwd())
    return choice({"engine": engine, "activations": activations}, table)


def check(config: pytest.Config) -> None:
    """Raise UsageError for an engine that the environment or `[tool.quantbench]` names and that cannot be had, before
    anything is collected. Whatever else is wrong in that table is told when a test of ours is collected.
    """
    try:
        _, table = pyproject_table.read_table(config.invocation_params.dir, config.rootpath)
    except QuantbenchError:
        return
    with refusing(config):
        choice({}, table)
