"""The header of a safetensors file, checked before anything behind it is trusted.

A safetensors file is the header's length (8 bytes, little-endian), the header (JSON: each tensor's type, shape and
place) and the tensors' bytes. The `safetensors` library sees to it that the header is well formed, and that the places
have the sizes that types and shapes say, follow each other without a gap and end where the file does. Headers that are
longer than any model's it would read all the same, and it does not know what MLX takes for something else: these are
refused here.
"""

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pytest_quantbench.errors import ModelError

# What MLX reads as what it is; it takes F8_* for whole numbers, and F64 not at all. No other types are read, unless the
# caller takes those of eight bits too, which are read without MLX.
DTYPE_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8"), 1),
    **dict.fromkeys(("F16", "BF16", "U16", "I16"), 2),
    **dict.fromkeys(("F32", "U32", "I32"), 4),
    **dict.fromkeys(("C64", "U64", "I64"), 8),
}
FLOAT8_BYTES: Mapping[str, int] = dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)
ALL_BYTES: Mapping[str, int] = {**DTYPE_BYTES, **FLOAT8_BYTES}
MOST_HEADER_BYTES = 25_000_000  # the Hub's own limit; 100 bytes a tensor make 200 kB for the largest dense models
MOST_DIMENSIONS = 8
LARGEST_DIMENSION = 2**31 - 1  # MLX counts in 32 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor as a header describes it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def stored_bytes(self) -> int:
        """How many it takes."""
        return math.prod(self.shape) * ALL_BYTES[self.dtype]


def read_header(file: Path, dtypes: Collection[str] = DTYPE_BYTES) -> dict[str, StoredTensor]:
    """Every tensor by name, in the order of their bytes. Raises ModelError naming what is wrong, that it is cut, or a
    tensor of a type that is not among these.
    """
    _refuse_false_length(file)
    try:
        with safe_open(file, framework="numpy") as opened:
            parts = {name: opened.get_slice(name) for name in opened.offset_keys()}
            found = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
    except SafetensorError as error:
        raise corrupt(file, f"{error!s:.200}") from error
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error}.") from error
    return {name: _tensor(file, name, dtype, shape, dtypes) for name, (dtype, shape) in found.items()}


def _refuse_false_length(file: Path) -> None:
    """Raise ModelError for a header whose length cannot be true, before it is read."""
    if not file.is_file():
        raise ModelError(f"{file} is not a file.")
    try:
        with file.open("rb") as opened:
            total = os.fstat(opened.fileno()).st_size
            length = int.from_bytes(opened.read(8), "little")
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.") from error
    if total < 8 or length > min(total - 8, MOST_HEADER_BYTES):
        raise corrupt(file, f"its header should take {length} bytes, of {total} and at most {MOST_HEADER_BYTES}")


def _tensor(file: Path, name: str, dtype: str, shape: tuple[int, ...], dtypes: Collection[str]) -> StoredTensor:
    if dtype not in dtypes:
        raise ModelError(f"{file} holds {short(name)} as {short(dtype)}. Types that are read: {', '.join(dtypes)}.")
    if len(shape) > MOST_DIMENSIONS or max(shape, default=0) > LARGEST_DIMENSION:
        raise corrupt(file, f"{short(name)} has shape {short(list(shape))}")
    return StoredTensor(dtype=dtype, shape=shape)


def data_start(file: Path) -> int:
    """Where the tensors' bytes begin in a file whose header was read: tensors follow each other from there."""
    with file.open("rb") as opened:
        return 8 + int.from_bytes(opened.read(8), "little")


def short(value: Any) -> str:
    """What a stranger's file says, at a length that fits a sentence."""
    return f"{value!r:.80}"


def corrupt(file: Path, problem: str) -> ModelError:
    """What is to be raised for a file that is not what it should be."""
    return ModelError(f"{file} is truncated or corrupt: {problem}. Fetch it again.")
