"""Tensors out of a safetensors file whose header was checked (see safetensors_header), as numpy arrays of their own.

The file is open while it is read and not afterwards; nothing is mapped or kept.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from pytest_quantbench.checkpoints.safetensors_header import read_header
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Arrays

NUMPY: Mapping[str, Any] = {  # by the types' names in the header: those that MLX, too, takes for what they are
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "C64": np.complex64,
}
STORABLE = frozenset(np.dtype(kind) for kind in NUMPY.values())  # the types of arrays that such a file can hold


def read(file: Path, names: Iterable[str]) -> Arrays:
    """These tensors of a file. Raises ModelError where it is no longer what it was when its header was checked."""
    try:
        with safe_open(file, framework="numpy") as opened:
            return {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} cannot be read: {error!s:.200}.") from error


def load(file: Path) -> Arrays:
    """Every tensor of a file. Raises ModelError for one that is damaged."""
    return read(file, read_header(file))
