"""Runtimes: what a file is run by where it is deployed, each in a process of its own, beside our walk on its weights.

A runtime is found by the format that it is made for. Whoever imports this package imports none of them: their modules
are named, and started as processes.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.engines.machine import version_of
from pytest_quantbench.engines.runtimes.process import Process
from pytest_quantbench.errors import RunnerError

__all__ = ["RUNTIMES", "Process", "Runtime", "default_threads", "runtime_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One of them: the formats that it runs, the package that it takes, what installs that, the module to start."""

    name: str
    formats: tuple[str, ...]
    package: str
    distribution: str
    extra: str
    module: str
    takes_folder: bool = False  # it is given the folder of the files, and not the first of them

    @property
    def is_installed(self) -> bool:
        """Whether the package is there; it is not imported."""
        return importlib.util.find_spec(self.package) is not None

    @property
    def missing(self) -> str:
        """What to do where it is not installed; empty where it is."""
        if self.is_installed:
            return ""
        return f"{self.name} is not installed. Install it with pip install 'pytest-quantbench[{self.extra}]'."

    @property
    def version(self) -> str:
        """Of the package that brings it."""
        return f"{self.distribution} {version_of(self.distribution)}"

    def source(self, files: Sequence[Path]) -> Path:
        """What it is given of a candidate's files."""
        return files[0].parent if self.takes_folder else files[0]

    def start(self) -> Process:
        """A new process of it. Raises RunnerError where it is not installed."""
        if self.missing:
            raise RunnerError(self.missing)
        return Process(self.name, self.module)


RUNTIMES = (
    Runtime(
        name="llama.cpp",
        formats=("gguf",),
        package="llama_cpp",
        distribution="llama-cpp-python",
        extra="llama",
        module="pytest_quantbench.engines.runtimes.llama_cpp_child",
    ),
    Runtime(
        name="mlx-lm",
        formats=("mlx",),
        package="mlx",
        distribution="mlx-lm",
        extra="cpu",
        module="pytest_quantbench.engines.mlx.runtime_child",
        takes_folder=True,
    ),
)


def runtime_for(format_name: str) -> Runtime | None:
    """What runs files of a format; None where nothing does here."""
    return next((each for each in RUNTIMES if format_name in each.formats), None)


def default_threads() -> int:
    """The threads that a runtime gets: as many as OMP_NUM_THREADS says, or as the cores that this process may use.

    Threads of a runtime wait for each other hundreds of times a token. Where other work keeps a core busy, all of them
    wait for the one on that core, and fewer threads are faster.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
