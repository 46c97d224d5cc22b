"""GGUF's blocks for an encoded matrix: the type that holds its grid, or the nearest that there is.

Source: ggml's block formats (ggml-common.h) as the `gguf` package reads them. A block is of 32 weights of a row (256 in
K-quants) and has its numbers in float16:

    Q4_0, Q5_0, Q8_0:  weight = d · (code − 8, 16, or 0 with signed codes)
    Q4_1, Q5_1:        weight = d · code + m
    MXFP4:             weight = 2^(scale − 127) · number of four bits

K-quants and mxfp4 are such blocks already, but for the order of their bytes. Affine grids of 2 to 5 bits become Q4_1
or Q5_1, those whose middle code is zero Q4_0 or Q5_0, of 8 bits Q8_0: every block of 32 gets its group's scale, and all
is as it was where float16 holds the scales. What has no such grid, and K-quants' rows that 256 does not divide, are
rounded to Q8_0, as llama.cpp falls back to wider types.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.compress.exports.mlx_grids import held, why_not
from pytest_quantbench.quantizers import Array
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.layer import Affine
from pytest_quantbench.quantizers.mlx_form import Grid
from pytest_quantbench.quantizers.numerics.bit_packing import unpack
from pytest_quantbench.quantizers.numerics.kquant_blocks import BLOCK, LAYOUTS

SHORT = 32  # weights in a block that is none of the K-quants'
LARGEST = 65504  # float16
MOVED = "Single weights that lie beside the grid are the grid's nearest level"
HALVED = "Scales are rounded to float16"
ROUNDED = "No type holds the rows as they are encoded: they are rounded to Q8_0"
Bytes = NDArray[np.uint8]
PLAIN: Mapping[np.dtype, str] = {
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.float16): "F16",
    np.dtype(np.float32): "F32",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A tensor as a file holds it: (out, bytes of a row) uint8, or the numbers themselves; `kind` is ggml's name.

    `change` says what had to be changed to hold it so; empty where nothing was.
    """

    kind: str
    content: Array
    change: str = ""

    def decoded(self) -> NDArray[np.float32]:
        """What every reader of the file gets."""
        import gguf

        if self.kind in PLAIN.values():
            return self.content.astype(np.float32)
        return gguf.quants.dequantize(self.content, gguf.GGMLQuantizationType[self.kind])


def plain(array: Array) -> Rows:
    """A tensor that was left as it was: a matrix in its own type, anything else in F32, as llama.cpp wants it."""
    if array.ndim != 2:
        array = array.astype(np.float32)
    return Rows(kind=PLAIN[array.dtype], content=array)


def encoded(encoding: Encoding, dense: NDArray[np.float32]) -> Rows:
    """A matrix; `dense` are its decoded values."""
    arrays, columns = encoding.arrays, encoding.shape[-1]
    if encoding.codec.name == "kquant":
        if columns % BLOCK:
            return _rounded(dense)
        size = arrays["blocks"].shape[1] * BLOCK // columns
        kind = next(layout.name for layout in LAYOUTS.values() if layout.size == size)
        return Rows(kind=kind, content=arrays["blocks"])
    (layer,) = encoding.layers()
    found = None if layer is None or why_not(layer) is not None else held(layer)
    rows = None if found is None else _of_grid(found.grid)
    if rows is None or found is None:
        return _rounded(dense)
    return Rows(kind=rows.kind, content=rows.content, change=MOVED if found.moved else HALVED)


def _rounded(dense: NDArray[np.float32]) -> Rows:
    """As Q8_0, or in F32 where no block divides the rows or no float16 scale reaches so far."""
    import gguf

    if dense.shape[1] % SHORT or np.abs(dense).max(initial=0) > 127 * LARGEST:
        return Rows(kind="F32", content=dense)
    content = gguf.quants.quantize(dense, gguf.GGMLQuantizationType.Q8_0)
    return Rows(kind="Q8_0", content=content, change=ROUNDED)


def _of_grid(grid: Grid) -> Rows | None:
    """The blocks of a grid; None where its groups, codes or scales do not fit any."""
    if isinstance(grid, Affine):
        return _affine(grid)
    if grid.form.name != "mxfp4":
        return None
    codes = np.asarray(unpack(grid.codes.view(np.uint8), grid.bits), np.uint8).reshape(len(grid.codes), -1, SHORT)
    return _joined("MXFP4", [grid.scales[:, :, None], *_codes(codes, grid.bits)])


def _affine(grid: Affine) -> Rows | None:
    if grid.group % SHORT or grid.bits not in (2, 3, 4, 5, 8):
        return None
    middle = np.float32(2 ** (max(grid.bits, 4) - 1))
    codes = np.asarray(unpack(grid.codes.view(np.uint8), grid.bits), np.uint8).reshape(len(grid.codes), -1, SHORT)
    repeats = grid.group // SHORT
    scales, biases = (np.repeat(part.astype(np.float32), repeats, axis=1) for part in (grid.scales, grid.biases))
    symmetric = np.array_equal(biases, -middle * scales)
    largest = max(np.abs(scales).max(initial=0), 0 if symmetric else np.abs(biases).max(initial=0))
    if (grid.bits == 8 and not symmetric) or not largest <= LARGEST:
        return None
    kind = "Q8_0" if grid.bits == 8 else f"Q{max(grid.bits, 4)}_{0 if symmetric else 1}"
    return _joined(kind, [_half(scales), *([] if symmetric else [_half(biases)]), *_codes(codes, grid.bits)])


def _joined(kind: str, parts: list[Bytes]) -> Rows:
    """Parts of blocks, (out, blocks, bytes) each, one after the other."""
    return Rows(kind=kind, content=np.concatenate(parts, axis=2).reshape(len(parts[0]), -1))


def _half(numbers: NDArray[np.float32]) -> Bytes:
    """(out, blocks) → (out, blocks, 2)."""
    return numbers.astype("<f2")[:, :, None].view(np.uint8)


def _codes(codes: Bytes, bits: int) -> list[Bytes]:
    """(out, blocks, 32) codes → the bytes of blocks: of five bits the fifth ones first, then nibbles, of which the
    upper ones are the second half's; of eight bits signed.
    """
    if bits == 8:
        return [codes ^ np.uint8(128)]
    low, half = codes & np.uint8(15), SHORT // 2
    nibbles = low[:, :, :half] | low[:, :, half:] << np.uint8(4)
    return [nibbles] if bits < 5 else [np.packbits(codes >> np.uint8(4), axis=2, bitorder="little"), nibbles]
