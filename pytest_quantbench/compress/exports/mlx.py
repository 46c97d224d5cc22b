"""MLX's own storage, which `mlx_lm.load` opens: quantized matrices as their arrays, all else in 16 or 32 bits.

Source: mlx-lm's `quantize_model` and `load_model`. A quantized layer of path P has P.weight, P.scales and, in the
affine mode, P.biases; `quantization` in config.json has an entry for every one of them.

A method's grid is written as its `layer` describes it: so int8, nibble and the K-quants with groups of 32 come as
affine grids too, which decode to the same numbers. What MLX cannot hold is refused, and what it can hold only nearly is
measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Part, Recipe
from pytest_quantbench.checkpoints.layer_kinds import for_mlx_lm
from pytest_quantbench.compress.exports.beside import copy_beside
from pytest_quantbench.compress.exports.differences import Difference, told
from pytest_quantbench.compress.exports.mlx_grids import held, why_not
from pytest_quantbench.compress.exports.protocol import Job, Written
from pytest_quantbench.compress.exports.safetensors_files import SafetensorsFiles
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.progress import track
from pytest_quantbench.quantizers import Array, Arrays, Layer, Statistics
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.layer import Affine
from pytest_quantbench.quantizers.mlx_form import Entry, Grid, kind_of, stored
from pytest_quantbench.quantizers.numerics.affine_rounding import decoded

TRIAL_SHAPE = (64, 256)
WAY_OUT = "Choose --to hf, which writes decoded weights."


class Mlx:
    """An `Exporter`."""

    name: ClassVar[str] = "mlx"
    use: ClassVar[str] = "`mlx_lm.load` opens this directory."

    def check(self, recipe: Recipe, source: Architecture) -> None:
        """A small matrix is encoded by every part of the recipe: its layer shows what MLX cannot hold."""
        if not source.engine.paths_are_mlx_lms:
            raise QuantbenchError(
                f"The engine {source.engine.name!r} does not call parameters as mlx-lm does, whose form this is. "
                f"Choose --engine mlx, or --to gguf or hf."
            )
        for part in recipe.parts:
            if part.quantizer != "identity" and (reason := why_not(trial(part))) is not None:
                raise QuantbenchError(
                    f"{recipe.id} cannot be written as MLX: {part.quantizer}'s layer {reason}, and MLX stores grids "
                    f"alone. {WAY_OUT}"
                )

    def write(self, job: Job, directory: Path) -> Written:
        """Parameter after parameter, in the order of the layers."""
        artifact, entries = job.artifact, dict[str, Entry]()
        moved = Difference(reason="Single weights that lie beside the grid are the grid's nearest level")
        names = [f"{owner(name)}.{part}" for name in artifact.names for part in ("weight", "scales", "biases")]
        with SafetensorsFiles(directory, [*artifact.names, *names], "mlx") as files:
            for name in track(artifact.names, what=f"writing {job.name} as MLX", unit="tensor"):
                encoding = artifact.encoding(name)
                if encoding is None or encoding.codec.name == "identity":
                    (array,) = artifact.arrays(name).values()
                    files.add(name, array)
                    continue
                grids, count = _grids(name, encoding)
                entries[owner(name)] = _entry(grids[0])
                for part, array in _joined(grids, len(encoding.shape) == 3).items():
                    files.add(f"{owner(name)}.{part}", array)
                if count:
                    exact, held = artifact.float32(name), _decoded(grids, encoding)
                    moved.add(name, job.source.array(name), exact, held, f"{count} weights")
            stored_bytes = files.finish()
        config = for_mlx_lm(job.source.config)
        if entries:
            config["quantization"] = {**list(entries.values())[-1], **entries}
        copy_beside(job.source.checkpoint.directory, directory, config)
        sentences, lines = told([moved])
        return Written(stored_bytes=stored_bytes, differences=sentences, details=lines)


def trial(part: Part) -> Layer | None:
    """The layer of a small random matrix, as this part of a recipe encodes it."""
    quantizer, generator = quantizers.make(part), np.random.default_rng(0)
    inputs = generator.standard_normal(TRIAL_SHAPE).astype(np.float32)
    hessian = inputs.T @ inputs / np.float32(len(inputs)) + np.eye(TRIAL_SHAPE[1], dtype=np.float32)
    seen = Statistics(hessian=hessian, tokens=len(inputs), sample=inputs, peaks=inputs[:16])
    matrix = generator.standard_normal(TRIAL_SHAPE).astype(np.float32)
    return quantizer.layer(quantizer.encode(matrix, None if quantizer.calibration == "none" else seen, 0))


def owner(name: str) -> str:
    """The path of the layer that a parameter belongs to."""
    return name.rpartition(".")[0]


def _grids(name: str, encoding: Encoding) -> tuple[list[Grid], int]:
    """The grid of each matrix as MLX holds it, and how many single weights were moved. Raises QuantbenchError."""
    grids, moved = [], 0
    for layer in encoding.layers():
        if (reason := why_not(layer)) is not None:
            raise QuantbenchError(f"{name} cannot be written as MLX: its layer {reason}. {WAY_OUT}")
        assert layer is not None
        found = held(layer)
        if found is None:
            columns = encoding.shape[-1]
            raise QuantbenchError(
                f"{name} cannot be written as MLX: no group divides its rows of {columns}, which are padded. {WAY_OUT}"
            )
        grids.append(found.grid)
        moved += found.moved
    if len({kind_of(grid) for grid in grids}) != 1:
        raise QuantbenchError(f"{name} cannot be written as MLX: its experts are not all encoded alike. {WAY_OUT}")
    return grids, moved


def _entry(grid: Grid) -> Entry:
    group, bits, mode = kind_of(grid)
    entry: Entry = {"group_size": group, "bits": bits}
    return entry if mode == "affine" else {**entry, "mode": mode}


def _joined(grids: list[Grid], is_stack: bool) -> Arrays:
    """The arrays under MLX's names; experts first, and of one type for all of them, where it is a stack."""
    each: list[Mapping[str, Array]] = [stored(grid) for grid in grids]
    if not is_stack:
        return dict(each[0])
    kinds = {name: np.result_type(*(arrays[name].dtype for arrays in each)) for name in each[0]}
    return {name: np.stack([arrays[name].astype(kind) for arrays in each]) for name, kind in kinds.items()}


def _decoded(grids: list[Grid], encoding: Encoding) -> Array:
    """What the grids decode to, (out, in) or (experts, out, in) float32: affine ones alone have moved weights."""
    made = [
        decoded(grid.codes.view(np.uint8), grid.scales, grid.biases, grid.bits)
        for grid in grids
        if isinstance(grid, Affine)
    ]
    return np.stack(made) if len(encoding.shape) == 3 else made[0]
