"""`quantbench convert`: a model at a recipe, written for whoever runs it; or somebody else's, decoded."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.plugin import engine_choice
from pytest_quantbench.plugin import option_values as values

if TYPE_CHECKING:
    from pytest_quantbench.catalog.settings import Settings
    from pytest_quantbench.compress.artifact import Artifact
    from pytest_quantbench.compress.exports.protocol import Written
    from pytest_quantbench.engines.protocol import Activations

HELP = "write a model at a recipe as MLX, GGUF or decoded safetensors"
DESCRIPTION = (
    "Makes the compressed model as `quantbench run` does, or takes it from the cache, and writes it in a form that "
    "other programs read. What the form cannot hold as it was judged is said, and stands in the output's README.md."
)
MORE_THAN_ASKED = 1.1  # times the recipe's bits: then a file is told to be larger than what was asked for
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the recipe, and where what is written goes."""
    parser.add_argument(
        "model",
        help="a model of the catalogue by name, a directory, or a Hub id like owner/name; without a recipe, a file or "
        "directory of a quantized model",
    )
    parser.add_argument("--recipe", help="such as int4-q4_k_m; without one, the model is decoded as it is (--to hf)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a directory that is not there yet")
    parser.add_argument("--to", choices=("mlx", "gguf", "hf"), help="the form (default mlx; hf without a recipe)")
    parser.add_argument(
        "--dtype", default="bfloat16", choices=("bfloat16", "float32"), help="of decoded weights, with --to hf"
    )
    parser.add_argument("--calibration", metavar="FILE", help="a text file, a corpus by name, self or none")
    parser.add_argument("--seed", default="0", help="of the compression (default 0)")
    parser.add_argument(
        "--engine", metavar="auto|mlx|torch|NAME", help="what compresses it (default auto; mlx where MLX is to read it)"
    )
    parser.add_argument(
        "--activations", choices=("float32", "bfloat16"), help="in which a model is walked for calibration (float32)"
    )
    parser.add_argument("--offline", action="store_true", help="fetch nothing")


def run(chosen: argparse.Namespace) -> int:
    """Write it, and print what differs from the weights that were judged, or from those of the files."""
    from pytest_quantbench.compress.exports.beside import check_empty
    from pytest_quantbench.progress import show_on

    check_empty(chosen.output)
    show_on(sys.stderr)
    try:
        title, written = _decode(chosen) if chosen.recipe is None else _export(chosen)
    finally:
        show_on(None)
    print(f"{chosen.output}: {title}, {written.stored_bytes / 1e6:.1f} MB")
    print("\n".join(written.differences or ["Every weight is the same number."]))
    return 0


def _export(chosen: argparse.Namespace) -> "tuple[str, Written]":
    """A model at a recipe."""
    from pytest_quantbench.bench.subject import Subject
    from pytest_quantbench.catalog.settings import Settings
    from pytest_quantbench.compress.exports import get
    from pytest_quantbench.compress.exports.beside import card_of, new_directory
    from pytest_quantbench.compress.exports.protocol import Job

    engine, activations = _engine(chosen)
    settings = Settings(
        engine=engine,
        activations=activations,
        offline=chosen.offline,
        seed=_read("--seed", chosen.seed, values.seed),
        calibration=chosen.calibration and _read("--calibration", chosen.calibration, values.calibration),
    )
    subject, exporter = Subject(chosen.model, settings), get(chosen.to or "mlx")
    cell, model = subject.cell(chosen.recipe), subject.model
    exporter.check(cell.recipe, subject.inputs.opened)
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
        card_of(job, written, exporter.use).write(written, directory)
    weights = job.artifact.manifest.bf16_bytes // 2
    if told := _not_judged(chosen, cell.artifact, settings):
        print(told)
    bits, judged = (8 * size / weights for size in (written.stored_bytes, job.artifact.manifest.stored_bytes))
    beyond = f", where the recipe takes {judged:.2f}" if bits > MORE_THAN_ASKED * judged else ""
    return f"{cell.id} as {exporter.name}, {bits:.2f} bits per weight{beyond}", written


def _engine(chosen: argparse.Namespace) -> "tuple[str, Activations]":
    """The engine and the activations that were asked for, as a gate in this folder has them; for MLX's form MLX's own,
    whose names of parameters that form has.
    """
    named = None if chosen.engine is None else _read("--engine", chosen.engine, values.engine)
    if named is None and (chosen.to or "mlx") == "mlx":
        named = "mlx"
    return engine_choice.of_command(named, chosen.activations)


def _not_judged(chosen: argparse.Namespace, artifact: "Artifact", settings: "Settings") -> str:
    """That a gate in this folder judges other weights than are written: those that another engine compressed, on a
    calibration that it walked; empty where it judges these, or where every engine makes the same.
    """
    from pytest_quantbench import engines

    gate = engine_choice.of_command(None, None)
    own = engines.chosen(settings.engine, settings.activations)
    judged = engines.chosen(*gate)
    if not artifact.manifest.calibration or (own, settings.activations) == (judged, gate[1]):
        return ""
    return (
        f"These weights were compressed by {own}, whose calibration differs in its last bits from that of {judged}, by "
        f"which a gate in this folder judges: no gate has seen them. --engine {own} --activations "
        f"{settings.activations} judges them."
    )


def _decode(chosen: argparse.Namespace) -> "tuple[str, Written]":
    """A quantized model that somebody else made, without its original."""
    from pytest_quantbench.catalog.models import MODELS
    from pytest_quantbench.checkpoints.formats import open_candidate
    from pytest_quantbench.compress.exports.beside import new_directory
    from pytest_quantbench.compress.exports.decoded import card_of_files, write_decoded
    from pytest_quantbench.fetch.candidates import find, local_path

    if chosen.to not in (None, "hf"):
        raise QuantbenchError(f"--to {chosen.to} needs --recipe ID. Without one a quantized model is decoded: --to hf.")
    if chosen.model in MODELS and local_path(chosen.model) is None:
        raise QuantbenchError(
            f"{chosen.model} is a model of the catalogue, and not quantized: say at which recipe, such as "
            "--recipe int4, or --recipe bf16 for its own weights."
        )
    holding = open_candidate(find(chosen.model, chosen.offline))
    with new_directory(chosen.output) as directory:
        written = write_decoded(holding, chosen.dtype, directory)
        card_of_files(holding, chosen.model).write(written, directory)
    return f"{chosen.model} as {chosen.dtype}", written


def _read(option: str, text: str, reader: Callable[[str], T]) -> T:
    """What was typed, as the suite's options read it. Raises QuantbenchError."""
    try:
        return reader(text)
    except ValueError as error:
        raise QuantbenchError(f"{option} {text}: {error}") from error
