"""One tensor after the other out of a safetensors file, as numpy arrays. Nothing is mapped, nothing is kept."""

import math
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from pytest_quantbench.checkpoints.safetensors_header import StoredTensor, read_header
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array, Arrays

NUMPY: Mapping[str, Any] = {
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


class TensorFile:
    """A file whose header has been read and checked. Raises ModelError for one that is not what it says."""

    def __init__(self, file: Path) -> None:
        self.tensors: Mapping[str, StoredTensor] = read_header(file)
        self._file = file
        ends = list(accumulate(tensor.stored_bytes for tensor in self.tensors.values()))
        first = file.stat().st_size - (ends[-1] if ends else 0)  # no gaps, and the last ends where the file does
        self._begins = dict(zip(self.tensors, (first + end for end in (0, *ends)), strict=False))

    def read(self, name: str) -> Array:
        """One tensor. Raises ModelError where the file has become shorter."""
        tensor = self.tensors[name]
        count = math.prod(tensor.shape)
        values = np.fromfile(self._file, NUMPY[tensor.dtype], count, offset=self._begins[name])
        if len(values) != count:
            raise ModelError(f"{self._file} has become shorter since it was opened.")
        return values.reshape(tensor.shape)


def load(file: Path) -> Arrays:
    """Every tensor of a file. Raises ModelError for one that is damaged."""
    opened = TensorFile(file)
    return {name: opened.read(name) for name in opened.tensors}
