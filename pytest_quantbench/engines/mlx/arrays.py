"""Arrays between numpy, in which quantizers compute, and MLX, and how a file of them is written.

MLX keeps its arrays where the host can read them: what goes to numpy is not copied, only looked at.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import mlx.core as mx
import numpy as np

from pytest_quantbench.checkpoints.tensor_file import STORABLE
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Array

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def to_numpy(array: mx.array) -> Array:
    """The same values and type, evaluated, in the memory where MLX has them. Nobody may write into it."""
    bits = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    seen = np.asarray(bits)
    seen.flags.writeable = False
    return seen.view(BFLOAT16) if array.dtype == mx.bfloat16 else seen


def to_mlx(array: Array) -> mx.array:
    """A copy with the same values and type. Raises QuantbenchError for a type that MLX would not keep."""
    if array.dtype not in STORABLE:
        raise QuantbenchError(
            f"An array of {array.dtype} cannot be stored: MLX and safetensors files do not have both."
        )
    return mx.array(array)


def _named(kinds: Iterable[np.dtype[Any]]) -> str:
    return ", ".join(sorted(kind.name for kind in kinds))


def save(file: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file. Raises RuntimeError where that fails."""
    held = {name: to_mlx(array) for name, array in arrays.items()}
    mx.eval(held)
    mx.save_safetensors(str(file), held, metadata=None if metadata is None else dict(metadata))
