"""Whether arrays alone say what a matrix is: decoded in a fresh process with another hash seed, home, folder for
temporary files and working folder, they have to give the same matrix; and the matrix, encoded there, the same arrays.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.quantizers import Array, Quantizer, field_names
from pytest_quantbench.workbench.isolated_child import (
    DECODED,
    ENCODED,
    GIVEN,
    STATISTICS,
    STATISTICS_FIELDS,
    TASK,
    WEIGHTS,
    named,
    parts_of,
)
from pytest_quantbench.workbench.trials import decode, demand, encode, gaussian, statistics

SEED = 3
SHAPES = {"small": (16, 172), "wide": (8, 512), "tall": (512, 64), "odd": (17, 33)}
HASH_SEEDS = ("11", "12")  # the second, should this process have the first
LONGEST = 300  # characters of what the process says
PATIENCE_SECONDS = 600
FOLDERS = ("HOME", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "QUANTBENCH_CACHE")


def needs_nothing_but_its_arrays(quantizer: Quantizer) -> None:
    """Another process decodes the same, to the last bit, and encodes the same."""
    weights = {name: gaussian(shape) for name, shape in SHAPES.items()}
    arrays = {name: encode(quantizer, weight, SEED) for name, weight in weights.items()}
    decoded = {name: decode(quantizer, each) for name, each in arrays.items()}
    with tempfile.TemporaryDirectory(prefix="conform-") as directory:
        folder = Path(directory)
        _write(folder, quantizer, weights, arrays)
        _run(folder, quantizer)
        elsewhere, again = (load(folder / name) for name in (DECODED, ENCODED))
        for name, shape in SHAPES.items():
            told = f"a Gaussian {shape} matrix"
            theirs, mine = elsewhere[name], decoded[name]
            changed = theirs.shape != mine.shape or bool((theirs != mine).any())
            demand(not changed, f"{told} is decoded to another one in a fresh process: {_furthest(theirs, mine)}")
            other = parts_of(name, again)
            demand(other.keys() == arrays[name].keys(), f"{told} is encoded to other arrays in a fresh process")
            for array, value in arrays[name].items():
                same = np.array_equal(value, other[array])
                demand(same, f"{told}: {array} is encoded differently in a fresh process")


def _furthest(theirs: np.ndarray, mine: np.ndarray) -> str:
    if theirs.shape != mine.shape:
        return f"shape {theirs.shape}, not {mine.shape}"
    return f"values differ by up to {np.abs(theirs - mine).max():.2g}, and nothing may differ"


def _write(
    folder: Path,
    quantizer: Quantizer,
    weights: Mapping[str, Array],
    arrays: Mapping[str, Mapping[str, Array]],
) -> None:
    kind = type(quantizer)
    parameters = {name: getattr(quantizer, name) for name in field_names(kind)}
    for name, value in parameters.items():
        known = isinstance(value, int | float | str)
        demand(known, f"{name} = {value!r} is no number and no text: no recipe can say it")
    seen = {name: found for name, each in weights.items() if (found := statistics(quantizer, each.shape[1]))}
    task = {"module": kind.__module__, "class": kind.__qualname__, "parameters": parameters, "seed": SEED}
    (folder / TASK).write_text(json.dumps(task))
    fields: dict[str, Any] = {f"{n}.{f}": getattr(s, f) for n, s in seen.items() for f in STATISTICS_FIELDS}
    np.savez(folder / STATISTICS, **fields)
    engines.get().save(folder / WEIGHTS, weights)
    given = {array: value for name, each in arrays.items() for array, value in named(name, each).items()}
    engines.get().save(folder / GIVEN, given)


def _run(folder: Path, quantizer: Quantizer) -> None:
    """Raises ConformanceError with the last line of what the process said, should it fail."""
    empty = folder / "empty"
    empty.mkdir()
    paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    own = os.environ.get("PYTHONHASHSEED")
    environment = {
        **os.environ,
        **dict.fromkeys(FOLDERS, str(empty)),
        "PYTHONPATH": paths,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": next(seed for seed in HASH_SEEDS if seed != own),
    }
    command = [sys.executable, "-m", "pytest_quantbench.workbench.isolated_child", str(folder)]
    try:
        done = subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        demand(False, f"a fresh process was not done with four small matrices after {PATIENCE_SECONDS} seconds")
        return
    said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
    demand(
        done.returncode == 0, f"{quantizer.name} fails in a fresh process that can write no file: {said[-1][:LONGEST]}"
    )
