"""What a runtime's process and this one say to each other: messages of plain values and arrays, nothing to execute.

A frame is a magic number, the lengths of its two parts, then a JSON object and the bytes of the arrays, one behind the
other, little-endian and in C order. The object's key `arrays` lists name, dtype and shape of each. Whatever is not of
that form, or larger than any message is, was not written by us: `Garbled`.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

HEAD = struct.Struct("<4sIQ")  # the magic number, bytes of the JSON object, bytes of the arrays
MAGIC = b"QBR1"
MOST_TOLD = 2**20  # bytes of a JSON object
MOST_ARRAYS = 2**31  # bytes of all arrays: logits are asked for a stretch at a time
DTYPES = ("int32", "float32", "float64")
Arrays = Mapping[str, NDArray[Any]]


class Garbled(ValueError):
    """Bytes that are no frame, and why."""


class _Listed(msgspec.Struct, frozen=True):
    """One array of a frame."""

    name: str
    dtype: str
    shape: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """`values` are plain JSON; arrays are of the types in DTYPES, and not to be written into."""

    values: Mapping[str, Any]
    arrays: Arrays = field(default_factory=dict)


def packed(message: Message) -> bytes:
    """The frame of a message. Raises ValueError for an array of a type that frames do not have."""
    listed, parts = [], []
    for name, array in message.arrays.items():
        if array.dtype.name not in DTYPES:
            raise ValueError(f"{name} is of type {array.dtype}, and a frame holds {', '.join(DTYPES)}.")
        listed.append(_Listed(name=name, dtype=array.dtype.name, shape=list(array.shape)))
        parts.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    told = msgspec.json.encode({**message.values, "arrays": listed})
    return b"".join([HEAD.pack(MAGIC, len(told), sum(map(len, parts))), told, *parts])


def lengths(head: bytes) -> tuple[int, int]:
    """How many bytes of JSON and of arrays follow these HEAD.size bytes. Raises Garbled."""
    magic, told, arrays = HEAD.unpack(head)
    if magic != MAGIC:
        raise Garbled(f"it begins with {head!r}")
    if told > MOST_TOLD or arrays > MOST_ARRAYS:
        raise Garbled(f"it claims {told:,} and {arrays:,} bytes")
    return told, arrays


def unpacked(told: bytes, content: bytes) -> Message:
    """The message of the two parts of a frame. Raises Garbled."""
    try:
        values = msgspec.json.decode(told, type=dict[str, Any])
        listed = msgspec.convert(values.pop("arrays", None), list[_Listed])
    except msgspec.MsgspecError as error:
        raise Garbled(str(error)) from error
    return Message(values=values, arrays=dict(_arrays(listed, content)))


def _arrays(listed: Sequence[_Listed], content: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    begin = 0
    for each in listed:
        if each.dtype not in DTYPES or any(side < 0 for side in each.shape):
            raise Garbled(f"{each.name} is a {each.dtype} array of shape {each.shape}")
        dtype, count = np.dtype(each.dtype).newbyteorder("<"), math.prod(each.shape)
        if begin + count * dtype.itemsize > len(content):
            raise Garbled(f"{each.name} of shape {each.shape} is longer than what follows")
        yield each.name, np.frombuffer(content, dtype, count, begin).reshape(each.shape)
        begin += count * dtype.itemsize
    if begin != len(content):
        raise Garbled(f"{len(content) - begin:,} bytes belong to no array")
