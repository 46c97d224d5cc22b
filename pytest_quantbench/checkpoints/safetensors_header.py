"""The header of a safetensors file, checked before anything behind it is trusted.

A safetensors file is the header's length (8 bytes, little-endian), the header (JSON: each tensor's type, shape and
place) and the tensors' bytes, without a gap. What is refused here never reaches a reader that maps memory by it.
Nothing but the header is read, and the header itself only where its length can be true.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_quantbench.errors import ModelError

# What MLX reads as what it is; it takes F8_* for whole numbers, and F64 not at all.
DTYPE_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8"), 1),
    **dict.fromkeys(("F16", "BF16", "U16", "I16"), 2),
    **dict.fromkeys(("F32", "U32", "I32"), 4),
    **dict.fromkeys(("C64", "U64", "I64"), 8),
}
MOST_HEADER_BYTES = 25_000_000  # the Hub's own limit; 100 bytes a tensor make 200 kB for the largest dense models
MOST_DIGITS = 19  # of a number: 2^63 has as many
MOST_DIMENSIONS = 8
LARGEST_DIMENSION = 2**31 - 1  # MLX counts in 32 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor as a header describes it; `begin` and `end` count bytes from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Every tensor by name. Raises ModelError naming what is wrong with the header, or that the file is cut."""
    text, room = _header_text(file)
    header = read_json(file, text)
    _check_metadata(file, header.pop("__metadata__", None) or {})  # MLX writes null
    tensors = {name: _tensor(file, name, entry) for name, entry in header.items()}
    _check_places(file, tensors, room)
    return tensors


def _header_text(file: Path) -> tuple[bytes, int]:
    """The header, and how many bytes follow it. A length that cannot be true is refused before it is read."""
    if not file.is_file():
        raise ModelError(f"{file} is not a file.")
    try:
        with file.open("rb") as opened:
            total = os.fstat(opened.fileno()).st_size
            length = int.from_bytes(opened.read(8), "little")
            if total < 8 or length > min(total - 8, MOST_HEADER_BYTES):
                raise _corrupt(
                    file, f"its header should take {length} bytes, of {total} and at most {MOST_HEADER_BYTES}"
                )
            text = opened.read(length)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.") from error
    if not text.startswith(b"{"):
        raise _corrupt(file, f"its header begins with {text[:8]!r} instead of {{")
    return text, total - 8 - length


def read_json(file: Path, text: bytes) -> dict[str, Any]:
    """A JSON table without negative or huge integers and without a key twice, or a ModelError naming the file."""
    try:
        parsed = json.loads(text.decode(), object_pairs_hook=_unique, parse_int=_size)
    except (ValueError, RecursionError) as error:
        raise _corrupt(file, f"its JSON cannot be read: {error}") from error
    if not isinstance(parsed, dict):
        raise _corrupt(file, "its JSON is no table")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"{short(key)} is there twice")
        key.encode()  # half a surrogate pair is a ValueError
        table[key] = value
    return table


def _size(digits: str) -> int:
    if digits.startswith("-") or len(digits) > MOST_DIGITS:
        raise ValueError(f"{digits[:40]} cannot be a size")
    return int(digits)


def _check_metadata(file: Path, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _corrupt(file, "its __metadata__ is no table of strings")


def _tensor(file: Path, name: str, entry: Any) -> StoredTensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _corrupt(file, f"{short(name)} is not described by dtype, shape and data_offsets alone")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ModelError(
            f"{file} holds {short(name)} as {short(dtype)}. Types that are read: {', '.join(DTYPE_BYTES)}."
        )
    if not _are_sizes(shape) or len(shape) > MOST_DIMENSIONS or max(shape, default=0) > LARGEST_DIMENSION:
        raise _corrupt(file, f"{short(name)} has shape {short(shape)}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise _corrupt(file, f"{short(name)} lies at {short(offsets)}")
    size = math.prod(shape) * DTYPE_BYTES[dtype]
    if offsets[1] - offsets[0] != size or math.prod(max(dimension, 1) for dimension in shape) >= 2**60:
        raise _corrupt(file, f"{short(name)} of shape {shape} takes {size} bytes as {dtype}, and lies at {offsets}")
    return StoredTensor(dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)  # a bool is an int, too


def _check_places(file: Path, tensors: Mapping[str, StoredTensor], room: int) -> None:
    """Refuse tensors that overlap, leave a gap, or do not end where the file does; `room`: bytes after the header."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != position:
            raise _corrupt(
                file, f"{short(name)} begins at byte {tensor.begin}, and what is before it ends at {position}"
            )
        position = tensor.end
    if position != room:
        raise _corrupt(file, f"its tensors take {position} bytes, and {room} follow the header")


def short(value: Any) -> str:
    """What a stranger's file says, at a length that fits a sentence."""
    return f"{value!r:.80}"


def _corrupt(file: Path, problem: str) -> ModelError:
    return ModelError(f"{file} is truncated or corrupt: {problem}. Fetch it again.")
