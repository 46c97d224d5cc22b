"""The suite that comes with the package: the files that lie in `benches/` of its repository, as pytest is told of them.

It runs from any folder: by its own settings, not by those of a project around it, and with the short option names.
What it measures and writes is the user's: `[tool.quantbench]` above the current folder, and `results` in it.
"""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_quantbench.plugin.option_names import SHORT_OPTIONS

PACKAGE = Path(__file__).parents[1]
INSTALLED = PACKAGE / "benches"  # of a wheel
SUITE = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent / "benches"
# pytest warns of plugins whose package was imported before it started, as any command of ours has.
QUIET_ON_IMPORTS = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
COMMAND = "quantbench_command"  # in what a worker of pytest-xdist is given: what the user typed


def run(arguments: Sequence[str]) -> int:
    """Run the suite with these arguments of pytest's. Returns pytest's exit code."""
    return int(pytest.main(suite_arguments(arguments)))


def suite_arguments(arguments: Sequence[str]) -> list[str]:
    """What pytest is told so that it runs the suite."""
    return [*_beginning(), *arguments]


def _beginning() -> list[str]:
    apart = ["-c", os.devnull, "--rootdir", str(Path.cwd()), "--confcutdir", str(SUITE), "--import-mode", "importlib"]
    return [str(SUITE), *apart, *QUIET_ON_IMPORTS, "-p", SHORT_OPTIONS]


def command_line(arguments: Sequence[object]) -> str:
    """What a user typed to start a session whose pytest has these arguments."""
    told, beginning = list(map(str, arguments)), _beginning()
    if told[: len(beginning)] == beginning:
        return shlex.join(["quantbench", "run", *told[len(beginning) :]])
    return shlex.join(["pytest", *told])


def typed_command(config: pytest.Config) -> str:
    """What a user typed to start this session; a worker of pytest-xdist, whose own arguments are another process's, has
    been told.
    """
    told = getattr(config, "workerinput", {}).get(COMMAND)
    return command_line(config.invocation_params.args) if told is None else str(told)
