"""Sessions that start in no time: forks of a process that has imported everything and measured nothing.

`python -m faults.warm` reads a line of JSON for every order: {"start": [arguments of pytest], "log": file,
"environment": {...}} is answered with the id of a process that leads a group of its own; {"wait": id} with its exit
code, negative for a signal.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = (
    "altair",
    "lm_eval.tasks",
    "mlx_lm.generate",
    "mlx_lm.models.llama",
    "scipy.stats",
    "transformers.models.llama",
    "vl_convert",
    "faults.counted",
    *(
        f"pytest_quantbench.{name}"
        for name in ("bench.subject", "measures.accuracy.score", "report.charts.sheet", "report.publish", "plugin.run")
    ),
)


class Warm:
    """The process that is forked, as a test sees it."""

    def __init__(self):
        paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.warm"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "Agg"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._process.stdout.readline()  # it is ready

    def _ask(self, **order):
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def start(self, place, arguments):
        """A session on a Place, in a process group of its own; returns the id of both."""
        place.folder.mkdir(exist_ok=True)
        environment = {"QUANTBENCH_CACHE": str(place.cache), "COUNTED": str(place.folder / "counted.txt")}
        return self._ask(start=arguments, environment=environment, log=str(place.folder / "log.txt"))

    def wait(self, process):
        """The exit code."""
        return self._ask(wait=process)

    def close(self):
        self._process.communicate()


def forked(order):
    if process := os.fork():
        return process
    os.setsid()
    os.environ.update(order["environment"])
    with open(order["log"], "ab") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    os._exit(pytest.main(order["start"]))


def waited(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main():
    for module in MODULES:
        importlib.import_module(module)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(forked(order) if "start" in order else waited(order["wait"]), flush=True)


if __name__ == "__main__":
    main()
