"""Tensors out of a safetensors file whose header was checked (see safetensors_header), as numpy arrays of their own.

The file is open while it is read and not afterwards; nothing is mapped or kept. Numbers of eight bits the safetensors
library does not give to numpy; they are taken from their place in the file, which the sizes of those before them say.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from pytest_quantbench.checkpoints.safetensors_header import (
    ALL_BYTES,
    FLOAT8_BYTES,
    StoredTensor,
    data_start,
    read_header,
)
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Arrays

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
FLOAT8: Mapping[str, Any] = {  # those that MLX does not know
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}
STORABLE = frozenset(np.dtype(kind) for kind in NUMPY.values())  # the types of arrays that such a file can hold


def read(file: Path, names: Iterable[str]) -> Arrays:
    """These tensors of a file. Raises ModelError where it is no longer what it was when its header was checked."""
    try:
        with safe_open(file, framework="numpy") as opened:
            dtypes = {name: opened.get_slice(name).get_dtype() for name in names}
            small = [name for name, dtype in dtypes.items() if dtype in FLOAT8_BYTES]
            found = {name: opened.get_tensor(name) for name in dtypes if name not in small}
        return found | (_float8(file, small) if small else {})
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} cannot be read: {error!s:.200}.") from error


def _float8(file: Path, names: Iterable[str]) -> Arrays:
    """Tensors of eight-bit numbers. Raises OSError where the file ends before they do."""
    tensors, start = read_header(file, ALL_BYTES), data_start(file)
    places: dict[str, int] = {}
    for name, tensor in tensors.items():
        places[name], start = start, start + tensor.stored_bytes
    return {name: _at(file, places[name], tensors[name]) for name in names}


def _at(file: Path, place: int, tensor: StoredTensor) -> Array:
    found = np.fromfile(file, np.uint8, tensor.stored_bytes, offset=place)
    if len(found) != tensor.stored_bytes:
        raise OSError("it was cut while it was read")
    seen: Array = found.view(FLOAT8[tensor.dtype])
    return seen.reshape(tensor.shape)


def load(file: Path) -> Arrays:
    """Every tensor of a file. Raises ModelError for one that is damaged."""
    return read(file, read_header(file))
