"""How the codes of a matrix lie in the words of Hub checkpoints: three orders, each read into (out, in) or its rows.

- Down the columns (GPTQ): a column's codes are a little-endian stream of bits in 32-bit words, one below the other.
  With 3 bits, 32 codes take three words, and two codes of them lie across a word's end. Read along the rows of the
  transposed words, this is the very layout of MLX's affine codes.
- Interleaved (AWQ): a word holds 4-bit codes of eight columns, which from its lowest bits upwards are columns
  0, 2, 4, 6, 1, 3, 5, 7 of them.
- In slabs (HQQ): the matrix's rows are cut into as many slabs as codes fit into a word, one below the other; a word
  holds one code of each, that of the first slab in its highest bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers import Array
from pytest_quantbench.quantizers.numerics.bit_packing import Codes, unpack
from pytest_quantbench.quantizers.numerics.row_blocks import over_rows

INTERLEAVED = (0, 2, 4, 6, 1, 3, 5, 7)  # the column that each nibble of a word belongs to, the lowest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Slabs:
    """How many codes of how many bits share a word of this type."""

    codes: int
    bits: int
    dtype: str  # as a safetensors header says it


SLABS: Mapping[str, Slabs] = {  # by what HQQ calls them
    "8bit_u8": Slabs(codes=1, bits=8, dtype="U8"),
    "4bit_u8": Slabs(codes=2, bits=4, dtype="U8"),
    "3bit_32": Slabs(codes=10, bits=3, dtype="I32"),  # two bits of a word are empty
    "2bit_u8": Slabs(codes=4, bits=2, dtype="U8"),
    "1bit_u8": Slabs(codes=8, bits=1, dtype="U8"),
}


def words_of(count: int, bits: int) -> int:
    """How many 32-bit words a stream of so many codes takes, the last perhaps not full."""
    return -(-count * bits // 32)


def turned(words: Array) -> NDArray[np.uint32]:
    """(words, out) int32 with codes down the columns → (out, words) uint32 with codes along the rows."""
    return np.ascontiguousarray(words.T).view(np.uint32)


def along_rows(words: Array, bits: int, count: int) -> Codes:
    """(rows, words) 32-bit → (rows, count) codes: a stream of bits in every row, the first code lowest."""
    stream = np.ascontiguousarray(words).view(np.uint8)
    codes = np.empty((len(words), count), np.uint8)

    def work(rows: slice) -> None:
        codes[rows] = unpack(stream[rows], bits)[:, :count]

    over_rows(work, *codes.shape)
    return codes


def interleaved(words: Array) -> Codes:
    """(rows, words) int32 → (8 × words, rows) codes of 4 bits: row k of the result is column k of the packed matrix."""
    columns = turned(words)  # (words, rows)
    codes = np.empty((columns.shape[0], 8, columns.shape[1]), np.uint8)

    def work(rows: slice) -> None:
        for place, column in enumerate(INTERLEAVED):
            codes[rows, column] = columns[rows] >> np.uint32(4 * place) & np.uint32(15)

    over_rows(work, columns.shape[0], 8 * columns.shape[1])
    return codes.reshape(-1, columns.shape[1])


def in_slabs(words: Array, slabs: Slabs, count: int) -> Codes:
    """(rows, columns) words → (count, columns) codes; what the last slab holds beyond `count` rows is padding."""
    unsigned = words.view(f"uint{8 * words.dtype.itemsize}")
    codes = np.empty((slabs.codes, *words.shape), np.uint8)
    for slab in range(slabs.codes):
        place = slabs.bits * (slabs.codes - 1 - slab)
        codes[slab] = unsigned >> unsigned.dtype.type(place) & unsigned.dtype.type(2**slabs.bits - 1)
    return codes.reshape(-1, words.shape[1])[:count]
