"""The header of a GGUF file, checked before anything behind it is trusted.

Source: "GGUF" in the documentation of ggml (docs/gguf.md), versions 2 and 3. All numbers are little-endian:

    magic "GGUF"   version u32   tensors u64   keys u64
    per key:       name   type u32   value
    per tensor:    name   dimensions u32   sizes u64…, fastest first   type u32   offset u64
    padding to the alignment (`general.alignment`, or 32), then the tensors' bytes, each at its offset from there

Names and text values are a length (u64) and that many bytes of UTF-8; an array is its elements' type (u32), their count
(u64) and the elements. Where we differ from llama.cpp and the `gguf` package: no count or length is believed before the
rest of the file is long enough for it; tensors may not overlap, and arrays are nested at most four deep. Big-endian
files, and those of version 1, are refused.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from pytest_quantbench.checkpoints.formats.gguf_cursor import Cursor, Value, read_value
from pytest_quantbench.checkpoints.safetensors_header import LARGEST_DIMENSION, corrupt, short
from pytest_quantbench.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_TENSORS = 2**17
MOST_KEYS = 2**14
MOST_NAME_BYTES = 2**16 - 1  # as the specification has it
MOST_DIMENSIONS = 4
USUAL_ALIGNMENT = 32
_LEAST_KEY_BYTES, _LEAST_TENSOR_BYTES = 8 + 4 + 1, 8 + 4 + 4 + 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """A tensor as a header describes it."""

    name: str
    shape: tuple[int, ...]  # slowest first, as everywhere else: (out, in)
    kind: str  # ggml's name of the type: `Q4_K`
    file: Path
    offset: int  # in bytes, from the start of the file
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says before its tensors' bytes."""

    file: Path
    version: int
    values: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]


@cache
def types() -> Mapping[int, tuple[str, int, int]]:
    """ggml's types of tensors by their numbers: name, weights in a block, bytes of a block."""
    from gguf import GGML_QUANT_SIZES

    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}


def read_header(file: Path) -> Header:
    """Every key and every tensor. Raises ModelError naming what is wrong, or that the file is cut."""
    if not file.is_file():
        raise ModelError(f"{file} is not a file.")
    try:
        with file.open("rb") as opened:
            return _read(Cursor(file, opened))
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.") from error


def _read(cursor: Cursor) -> Header:
    file = cursor.file
    if cursor.total < 4 or cursor.take(4, "the magic") != MAGIC:
        raise ModelError(f"{file} does not begin as a GGUF file does. Fetch it again.")
    version = cursor.number("the version", "<I")
    if version and version & 0xFFFF == 0:
        raise ModelError(f"{file} is a big-endian GGUF file, and little-endian ones are read.")
    if version not in VERSIONS:
        raise ModelError(f"{file} is of version {version} of GGUF. Versions that are read: {VERSIONS}.")
    counts = {
        what: _count(cursor, what, most, least)
        for what, most, least in (
            ("tensors", MOST_TENSORS, _LEAST_TENSOR_BYTES),
            ("keys", MOST_KEYS, _LEAST_KEY_BYTES),
        )
    }
    values = _values(cursor, counts["keys"])
    described = _described(cursor, counts["tensors"])
    alignment = _alignment(file, values)
    start = -(-cursor.place // alignment) * alignment
    tensors = {name: _tensor(cursor, name, start, alignment, *parts) for name, parts in described.items()}
    _refuse_overlaps(file, tensors)
    return Header(file=file, version=version, values=values, tensors=tensors)


def _count(cursor: Cursor, what: str, most: int, least_bytes: int) -> int:
    count = cursor.number(f"the number of {what}")
    if count > most:
        raise corrupt(cursor.file, f"it says that it has {count} {what}, and {most} are the most")
    cursor.check(count * least_bytes, f"a list of {count} {what}")
    return count


def _values(cursor: Cursor, count: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for place in range(count):
        key = cursor.text(f"the name of key {place}", MOST_NAME_BYTES)
        if key in values:
            raise corrupt(cursor.file, f"it has the key {short(key)} twice")
        kind = cursor.number(f"the type of {short(key)}", "<I")
        values[key] = read_value(cursor, kind, f"the value of {short(key)}")
    return values


def _described(cursor: Cursor, count: int) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Dimensions (slowest first), number of the type and offset of every tensor."""
    described: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for place in range(count):
        name = cursor.text(f"the name of tensor {place}", MOST_NAME_BYTES)
        if name in described:
            raise corrupt(cursor.file, f"it has the tensor {short(name)} twice")
        what = f"the description of {short(name)}"
        dimensions = cursor.number(what, "<I")
        if dimensions > MOST_DIMENSIONS:
            raise corrupt(cursor.file, f"{short(name)} has {dimensions} dimensions, and {MOST_DIMENSIONS} are the most")
        sizes = struct.unpack(f"<{dimensions}Q", cursor.take(8 * dimensions, what))
        described[name] = (sizes[::-1], cursor.number(what, "<I"), cursor.number(what))
    return described


def _alignment(file: Path, values: Mapping[str, Value]) -> int:
    alignment = values.get("general.alignment", USUAL_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise corrupt(file, f"general.alignment is {short(alignment)}, which is no power of two")
    return alignment


def _tensor(
    cursor: Cursor, name: str, start: int, alignment: int, shape: tuple[int, ...], number: int, offset: int
) -> GgufTensor:
    if number not in types():
        known = ", ".join(kind for kind, _, _ in types().values())
        raise ModelError(f"{cursor.file} holds {short(name)} in type {number}, which is not known here: {known} are.")
    kind, block, block_bytes = types()[number]
    if not all(0 < size <= LARGEST_DIMENSION for size in shape):
        raise corrupt(cursor.file, f"{short(name)} has shape {short(list(shape))}")
    if (shape[-1] if shape else 1) % block:
        raise corrupt(cursor.file, f"{short(name)} has shape {shape}, and {kind} has rows of whole blocks of {block}")
    size = math.prod(shape) // block * block_bytes
    if offset % alignment or start + offset + size > cursor.total:
        raise corrupt(
            cursor.file,
            f"{short(name)} of shape {shape} in {kind} takes {size} bytes from {offset} on, which has to be a "
            f"multiple of {alignment}; the file has {max(cursor.total - start, 0)} for all tensors",
        )
    return GgufTensor(name=name, shape=shape, kind=kind, file=cursor.file, offset=start + offset, stored_bytes=size)


def _refuse_overlaps(file: Path, tensors: Mapping[str, GgufTensor]) -> None:
    ordered = sorted(tensors.values(), key=lambda tensor: tensor.offset)
    for before, after in pairwise(ordered):
        if before.offset + before.stored_bytes > after.offset:
            raise corrupt(file, f"{short(before.name)} and {short(after.name)} overlap")
