"""What runs in the fresh process of `isolation`: decode arrays from a file, then encode anew, and write down both.

`python -m pytest_quantbench.workbench.isolated_child FOLDER`. While the quantizer works, no file can be written: the
limit on their size is zero, whatever writes them.
"""

import importlib
import json
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench import engines
from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.quantizers import Array, Arrays, Quantizer, Statistics

WEIGHTS, GIVEN, DECODED, ENCODED = (f"{name}.safetensors" for name in ("weights", "given", "decoded", "encoded"))
TASK, STATISTICS = "task.json", "statistics.npz"
STATISTICS_FIELDS = ("hessian", "sample", "peaks", "tokens")


def main(folder: Path) -> None:
    """Do what the folder's task says."""
    task = json.loads((folder / TASK).read_text())
    kind: Any = attrgetter(task["class"])(importlib.import_module(task["module"]))
    quantizer: Quantizer = kind(**task["parameters"])
    weights, given = load(folder / WEIGHTS), load(folder / GIVEN)
    seen = _statistics(folder / STATISTICS)
    decoded: Arrays = {}
    encoded: Arrays = {}
    with _no_file_written():
        for name in reversed(weights):
            decoded[name] = quantizer.decode(parts_of(name, given)).astype(np.float32)
        for name in reversed(weights):
            encoded |= named(name, quantizer.encode(weights[name], seen.get(name), task["seed"]))
    engines.get().save(folder / DECODED, decoded)
    engines.get().save(folder / ENCODED, encoded)


def named(matrix: str, arrays: Mapping[str, Array]) -> Arrays:
    """The arrays of one matrix, as they are called in a file of several."""
    return {f"{matrix}.{array}": value for array, value in arrays.items()}


def parts_of(matrix: str, arrays: Mapping[str, Array]) -> Arrays:
    """One matrix's arrays again."""
    return {name.partition(".")[2]: value for name, value in arrays.items() if name.partition(".")[0] == matrix}


@contextmanager
def _no_file_written() -> Iterator[None]:
    """Make every write to a file fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _statistics(file: Path) -> dict[str, Statistics]:
    """By matrix; empty for a method that takes none."""
    with np.load(file) as arrays:
        names = {key.partition(".")[0] for key in arrays}
        found: dict[str, dict[str, Any]] = {
            name: {field: arrays[f"{name}.{field}"] for field in STATISTICS_FIELDS} for name in names
        }
    return {name: Statistics(**{**each, "tokens": int(each["tokens"])}) for name, each in found.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
