"""`quantbench convert`: a model at a recipe, written for whoever runs it."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin import option_values as values

HELP = "write a model at a recipe as MLX, GGUF or decoded safetensors"
DESCRIPTION = (
    "Makes the compressed model as `quantbench run` does, or takes it from the cache, and writes it in a form that "
    "other programs read. What the form cannot hold as it was judged is said, and stands in the output's README.md."
)
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the recipe, and where what is written goes."""
    parser.add_argument("model", help="a model of the catalogue by name, a directory, or a Hub id like owner/name")
    parser.add_argument("--recipe", required=True, help="such as int4-q4_k_m")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a directory that is not there yet")
    parser.add_argument("--to", default="mlx", choices=("mlx", "gguf", "hf"), help="the form (default mlx)")
    parser.add_argument(
        "--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of decoded weights, with --to hf"
    )
    parser.add_argument("--calibration", metavar="FILE", help="a text file, a corpus by name, self or none")
    parser.add_argument("--seed", default="0", help="of the compression (default 0)")
    parser.add_argument("--offline", action="store_true", help="fetch nothing")


def run(chosen: argparse.Namespace) -> int:
    """Write it, and print what differs from the weights that were judged."""
    from pytest_quantbench.bench.subject import Subject
    from pytest_quantbench.catalog.settings import Settings
    from pytest_quantbench.compress.exports import get
    from pytest_quantbench.compress.exports.beside import check_empty, new_directory, write_card
    from pytest_quantbench.compress.exports.protocol import Job

    settings = Settings(
        offline=chosen.offline,
        seed=_read("--seed", chosen.seed, values.seed),
        calibration=chosen.calibration and _read("--calibration", chosen.calibration, values.calibration),
    )
    check_empty(chosen.output)
    subject, exporter = Subject(chosen.model, settings), get(chosen.to)
    cell = subject.cell(chosen.recipe)
    exporter.check(cell.recipe, subject.inputs.opened)
    model = subject.model
    job = Job(
        name=cell.id,
        base_model=model.name if model.local else model.source,
        recipe=cell.recipe,
        artifact=cell.artifact,
        source=subject.inputs.opened,
        dtype=chosen.dtype,
    )
    with new_directory(chosen.output) as directory:
        written = exporter.write(job, directory)
        write_card(job, written, directory, exporter.use)
    print(f"{chosen.output}: {cell.id} as {exporter.name}, {written.stored_bytes / 1e6:.1f} MB")
    print("\n".join(written.differences or ["Every weight is the one that was judged."]))
    return 0


def _read(option: str, text: str, reader: Callable[[str], T]) -> T:
    """What was typed, as the suite's options read it. Raises QuantbenchError."""
    try:
        return reader(text)
    except ValueError as error:
        raise QuantbenchError(f"{option} {text}: {error}") from error
