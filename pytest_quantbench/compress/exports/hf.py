"""Decoded weights as safetensors under the names that the original has on the Hub: what every program opens.

Every recipe can be written so, as `decode` defines its weights, in float32 or rounded to bfloat16. What a method does
to activations is not in weights, and lost. config.json is the original's with the type of the weights in it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.compress.exports.beside import copy_beside, lost_rules
from pytest_quantbench.compress.exports.differences import Difference, differ, told
from pytest_quantbench.compress.exports.protocol import Dtype, Job, Written
from pytest_quantbench.compress.exports.safetensors_files import SafetensorsFiles
from pytest_quantbench.engines.parameters import Origin
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import ModelError
from pytest_quantbench.progress import track

NUMPY: Mapping[Dtype, Any] = {"bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
DTYPE_KEYS = ("dtype", "torch_dtype")


class Hf:
    """An `Exporter`."""

    name: ClassVar[str] = "hf"
    use: ClassVar[str] = "Transformers and all that reads its directories open this one."

    def check(self, recipe: Recipe, source: Architecture) -> None:
        """Every recipe is possible, of a model whose parameters are published tensors, or stacks of them."""
        _origins(source)

    def write(self, job: Job, directory: Path) -> Written:
        """Parameter after parameter, each decoded and forgotten."""
        artifact, source, kind, origins = job.artifact, job.source, NUMPY[job.dtype], _origins(job.source)
        rounded = Difference(reason="Rounding to bfloat16 changes decoded weights")
        names = [name for each in origins.values() for name in each.sources]
        with SafetensorsFiles(directory, names, "pt") as files:
            for path in track(artifact.names, what=f"writing {job.name} as {job.dtype}", unit="tensor"):
                exact = artifact.float32(path)
                array = exact.astype(kind, copy=False)
                form = origins[path].form
                parts = array if form == "stack" else [np.ascontiguousarray(array.T) if form == "turned" else array]
                for name, part in zip(origins[path].sources, parts, strict=True):
                    files.add(name, part)
                if differ(exact, array):
                    rounded.add(path, source.array(path), exact, array)
            stored_bytes = files.finish()
        copy_beside(source.checkpoint.directory, directory, with_dtype(source.config, job.dtype))
        sentences, lines = told([rounded])
        return Written(
            stored_bytes=stored_bytes,
            differences=(*sentences, *lost_rules(job.recipe, "decoded weights")),
            details=lines,
        )


def _origins(source: Architecture) -> dict[str, Origin]:
    """What every parameter is called where the model is published. Raises ModelError for one that is neither a
    published tensor nor a stack of them.
    """
    origins = {parameter.path: source.origin(parameter.path) for parameter in source.parameters}
    for path, origin in origins.items():
        if origin.form == "made":
            raise ModelError(
                f"{source.checkpoint.directory} cannot be written as --to hf: {path} is put together of "
                f"{', '.join(origin.sources[:2])}, and taking it apart again is not done here. Choose --to mlx."
            )
    return origins


def with_dtype(config: Mapping[str, Any], dtype: Dtype) -> dict[str, Any]:
    """The config, saying in which type the weights are; tables inside it that say so, too."""
    inner = {key: with_dtype(value, dtype) for key, value in config.items() if _says_dtype(value)}
    known = [key for key in DTYPE_KEYS if key in config]
    return {**config, **inner, **dict.fromkeys(known or DTYPE_KEYS[1:], dtype)}


def _says_dtype(value: Any) -> bool:
    return isinstance(value, dict) and any(key in value for key in DTYPE_KEYS)
