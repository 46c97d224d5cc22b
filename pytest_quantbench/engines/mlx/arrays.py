"""Arrays between numpy, in which quantizers compute, and MLX, and how a file of them is written.

MLX keeps its arrays where the host can read them: what goes to numpy is not copied, only looked at.
"""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import mlx.core as mx
import numpy as np

from pytest_quantbench.checkpoints.tensor_file import STORABLE
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Array
from pytest_quantbench.storage.files import free_bytes

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


def as_mlx(array: mx.array | Array) -> mx.array:
    """MLX's own as it is, a copy of numpy's."""
    return array if isinstance(array, mx.array) else to_mlx(array)


def save(file: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError where that fails: MLX says it with a RuntimeError."""
    held = {name: to_mlx(array) for name, array in arrays.items()}
    mx.eval(held)
    try:
        mx.save_safetensors(str(file), held, metadata=None if metadata is None else dict(metadata))
    except RuntimeError as error:
        free_mb = free_bytes(file.parent) / 1e6
        raise OSError(f"{file.name}: {str(error).rstrip('.')}, {free_mb:.0f} MB are free") from None
