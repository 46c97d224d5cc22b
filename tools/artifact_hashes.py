"""SHA-256 of the files of Tiny's artifact at every recipe, beside what tests/recorded/artifact_hashes.json says.

    python tools/artifact_hashes.py                        # what differs from the recorded hashes
    python tools/artifact_hashes.py int4-rtn int4-gptq     # of these recipes only
    python tools/artifact_hashes.py --record               # make all artifacts and write the file anew: minutes

An artifact is the same to the last byte whenever the same recipe is applied to the same weights, so a change of the
code that is meant to change nothing leaves all hashes as they are. Record them anew only where a method is meant to
encode otherwise, together with its raised `version`, or where another version of MLX or numpy computes otherwise; say
which in the commit.

Methods of elementwise arithmetic store the same bytes on every machine. The others go through matrix products,
factorizations or eigenvectors, whose last bits differ between processors and between builds of BLAS and MLX: their
hashes mean something only where such operations give the recorded results, which `fingerprint` tells.
"""

import argparse
import functools
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench import engines, quantizers
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import LEVELS, MIXES, Recipe, recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.fetch.texts import read_text

RECORDED = Path(__file__).parent.parent / "tests" / "recorded" / "artifact_hashes.json"
ELEMENTWISE = {"identity", "rtn", "int8", "dynamic", "mxfp4", "mxfp8", "nvfp4"}
TINY = MODELS["Tiny"]


class Recorded(TypedDict):
    """What the file holds: the results of `fingerprint`, and of `file_hashes` by recipe."""

    fingerprint: dict[str, str]
    recipes: dict[str, dict[str, str]]


def recipes() -> Iterator[Recipe]:
    """Every quantized recipe that can be had, once: of each level its default, then every other method and mix."""
    methods = quantizers.names()
    for level in LEVELS.values():
        others = [name for name in methods if name not in (level.quantizer, "identity")]
        mixes = [name for name, mix in MIXES.items() if mix.inner.parameters["bits"] == level.bits]
        for name in [level.name, *(f"{level.name}-{method}" for method in (*others, *mixes))]:
            if level.bits < 16 and _can_be_had(made := recipe(name)):
                yield made


def _can_be_had(made: Recipe) -> bool:
    try:
        quantizers.check(made)
    except QuantbenchError:  # a method of another width
        return False
    return True


def is_elementwise(made: Recipe) -> bool:
    """Whether its artifact is the same on every machine."""
    return {part.quantizer for part in made.parts} <= ELEMENTWISE


def file_hashes(made: Recipe, cache: Path) -> dict[str, str]:
    """SHA-256 of every file of Tiny's artifact but its manifest, by name; the artifact is made in `cache`."""
    directory = compress(engines.get().open(Checkpoint(Path(TINY.source))), made, 0, cache, _calibration).directory
    assert directory is not None  # stored, so that it lies somewhere
    files = sorted(path for path in directory.iterdir() if path.name != "manifest.json")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@functools.cache
def _calibration() -> CalibrationSet:
    return CalibrationSet(text=read_text(TINY.calibration, offline=True), sequences=TINY.calibration_sequences)


def fingerprint() -> dict[str, str]:
    """Versions, and hashes of what fixed products, factorizations and functions give here.

    Matrices have Tiny's shapes, so that they take the ways through BLAS that its compression takes.
    """
    rng = np.random.default_rng(0)
    inputs, weight = rng.standard_normal((2048, 256), np.float32), rng.standard_normal((768, 256), np.float32)
    square = inputs.T @ inputs / len(inputs)
    return {
        "numpy version": np.__version__,
        "mlx version": version("mlx"),
        "mlx device": str(mx.default_device()),
        "numpy matmul": _hash(inputs @ weight.T, square, square.astype(np.float64) @ weight.T),
        "numpy cholesky": _hash(np.linalg.cholesky(square), np.linalg.cholesky(square.astype(np.float64))),
        "numpy eigh": _hash(*np.linalg.eigh(square)),
        "numpy svd": _hash(*np.linalg.svd(weight, full_matrices=False)),
        "numpy exp": _hash(np.exp(weight), np.log2(np.abs(weight))),
        "mlx matmul": _hash(np.array(mx.array(inputs) @ mx.array(weight).T)),
        "mlx softmax": _hash(np.array(mx.softmax(mx.array(inputs), axis=-1)), np.array(mx.sigmoid(mx.array(weight)))),
    }


def _hash(*arrays: NDArray[np.floating]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def recorded() -> Recorded:
    """The committed hashes."""
    told: Recorded = json.loads(RECORDED.read_text())
    return told


def differences(found: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """The names that have another value in one than in the other, or are in one only."""
    return sorted(name for name in {*found, *known} if found.get(name) != known.get(name))


def compare(chosen: Sequence[Recipe], known: Recorded) -> int:
    """Prints a line for every recipe whose files are not the recorded ones; returns how many."""
    for name in differences(fingerprint(), known["fingerprint"]):
        print(f"{name} is not what it was where the hashes were recorded; they can differ for that reason alone")
    wrong = 0
    with tempfile.TemporaryDirectory() as made:
        for each in chosen:
            files = differences(file_hashes(each, Path(made)), known["recipes"].get(each.id, {}))
            wrong += bool(files)
            print(f"{each.id}: {', '.join(files) or 'equal'}", flush=True)
    return wrong


def record(chosen: Sequence[Recipe]) -> None:
    """Make all artifacts and write the file anew."""
    with tempfile.TemporaryDirectory() as made:
        hashes = {each.id: file_hashes(each, Path(made)) for each in chosen}
    RECORDED.write_text(json.dumps(Recorded(fingerprint=fingerprint(), recipes=hashes), indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="*", help="default: all")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    chosen = [each for each in recipes() if not given.recipe or each.id in given.recipe]
    if given.record:
        record(chosen)
    else:
        sys.exit(bool(compare(chosen, recorded())))


if __name__ == "__main__":
    main()
