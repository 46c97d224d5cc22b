"""Codes of a few bits, packed as a little-endian stream: the layout in which MLX keeps its affine codes too."""

import math

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError

Codes = NDArray[np.uint8] | NDArray[np.uint16]


def _word(bits: int) -> tuple[int, int, np.dtype[np.unsignedinteger]]:
    """How many codes fill whole bytes (3-bit codes come in eights), in how many bytes, and a type that holds them."""
    count = 8 // math.gcd(8, bits)
    size = count * bits // 8
    if not 1 <= bits <= 16 or size > 8:
        raise QuantbenchError(f"Codes of {bits} bits cannot be packed; choose 1 to 8, 10, 12, 14 or 16.")
    return count, size, np.dtype(f"<u{1 << (size - 1).bit_length()}")


def pack(codes: Codes, bits: int) -> NDArray[np.uint8]:
    """(rows, columns) codes below 2^bits → (rows, columns × bits / 8) bytes, first code in the lowest bits.

    Raises QuantbenchError for a width that cannot be packed, or columns that do not fill whole bytes.
    """
    (count, size, word), (rows, columns) = _word(bits), codes.shape
    if columns % count:
        raise QuantbenchError(f"{columns} codes of {bits} bits do not fill whole bytes: pad to a multiple of {count}.")
    words = np.zeros((rows, columns // count), word)
    for place in range(count):
        words |= codes[:, place::count].astype(word) << word.type(bits * place)
    taken = words.view(np.uint8).reshape(rows, -1, word.itemsize)[:, :, :size]
    return np.ascontiguousarray(taken).reshape(rows, -1)


def unpack(packed: NDArray[np.uint8], bits: int) -> Codes:
    """(rows, bytes) → (rows, bytes × 8 / bits) codes: uint8 up to 8 bits, else uint16. The inverse of `pack`."""
    (count, size, word), rows = _word(bits), len(packed)
    wide = np.zeros((rows, packed.shape[1] // size, word.itemsize), np.uint8)
    wide[:, :, :size] = packed.reshape(rows, -1, size)
    words = wide.view(word)[:, :, 0]
    codes = np.empty((rows, words.shape[1] * count), np.uint8 if bits <= 8 else np.uint16)
    for place in range(count):
        codes[:, place::count] = words >> word.type(bits * place) & word.type(2**bits - 1)
    return codes
