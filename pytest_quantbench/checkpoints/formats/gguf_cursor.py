"""Reads the numbers, texts and arrays of a GGUF file's header one after the other.

Nothing is allocated for a length that is read before the rest of the file is known to be that long, and no header is
read further than MOST_HEADER_BYTES. What the parts are stands in gguf_header.
"""

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.safetensors_header import corrupt

MOST_HEADER_BYTES = 2**27  # the largest real ones, with 500,000 texts, take a tenth
MOST_DEPTH = 4  # of arrays in arrays
CHUNK = 2**20  # bytes read at once
TEXT, ARRAY = 8, 9  # the types of values that are no numbers
NUMBERS: Mapping[int, np.dtype[Any]] = MappingProxyType(
    {
        number: np.dtype(code)
        for number, code in enumerate(("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?", "", "", "<u8", "<i8", "<f8"))
        if code
    }
)
Value: TypeAlias = int | float | bool | str | list[Any] | NDArray[Any]


class Cursor:
    """Reads onwards through a file, and never further than the file and MOST_HEADER_BYTES go."""

    def __init__(self, file: Path, opened: BinaryIO) -> None:
        self.file, self._opened = file, opened
        self.total = os.fstat(opened.fileno()).st_size
        self.place = 0  # of the next byte
        self._loaded = b""
        self._start = 0  # of what is loaded

    def check(self, count: int, what: str) -> None:
        """Raise ModelError unless this many bytes can follow."""
        if count > min(self.total, MOST_HEADER_BYTES) - self.place:
            raise corrupt(
                self.file,
                f"{what} should take {count} bytes from byte {self.place} on, of {self.total} and at most "
                f"{MOST_HEADER_BYTES}",
            )

    def take(self, count: int, what: str) -> bytes:
        """The next bytes."""
        self.check(count, what)
        at = self.place - self._start
        if at + count > len(self._loaded):
            self._loaded, self._start, at = self._loaded[at:], self.place, 0
            self._loaded += self._opened.read(max(count - len(self._loaded), CHUNK))
        self.place += count
        found = self._loaded[at : at + count]
        if len(found) < count:
            raise corrupt(self.file, f"{what} ends early: the file was cut while it was read")
        return found

    def number(self, what: str, code: str = "<Q") -> int:
        """The next whole number, a u64 unless `code` says otherwise."""
        return int(struct.unpack(code, self.take(struct.calcsize(code), what))[0])

    def text(self, what: str, most: int = MOST_HEADER_BYTES) -> str:
        """The next length and as many bytes of UTF-8."""
        (length,) = struct.unpack("<Q", self.take(8, what))
        if length > most:
            raise corrupt(self.file, f"{what} should take {length} bytes, and may take {most}")
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError as error:
            raise corrupt(self.file, f"{what} is not UTF-8 ({error.reason} at its byte {error.start})") from error


def read_value(cursor: Cursor, kind: int, what: str, depth: int = 0) -> Value:
    """A value of this type, by its number. Raises ModelError for a type that is none, and for arrays too deep."""
    if kind in NUMBERS:
        dtype = NUMBERS[kind]
        found: Value = np.frombuffer(cursor.take(dtype.itemsize, what), dtype)[0].item()
        return found
    if kind == TEXT:
        return cursor.text(what)
    if kind != ARRAY:
        raise corrupt(cursor.file, f"{what} is of type {kind}, which GGUF does not have")
    if depth == MOST_DEPTH:
        raise corrupt(cursor.file, f"{what} is an array in arrays that are {MOST_DEPTH} deep")
    inner, count = cursor.number(what, "<I"), cursor.number(what)
    if inner in NUMBERS:
        dtype = NUMBERS[inner]
        return np.frombuffer(cursor.take(count * dtype.itemsize, what), dtype)
    cursor.check(count * (8 if inner == TEXT else 12), what)
    if inner == TEXT:
        return [cursor.text(what) for _ in range(count)]
    return [read_value(cursor, inner, what, depth + 1) for _ in range(count)]
