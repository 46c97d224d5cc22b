"""Which layers of codebooks there are kernels for, and the modules that they make of one."""

from collections.abc import Mapping

import numpy as np
import torch

from pytest_quantbench.engines.torch.arrays import as_torch
from pytest_quantbench.engines.torch.kernels.cpu import codebook_tables, codebook_words
from pytest_quantbench.engines.torch.kernels.cpu.codebook_tables import WORDS, Tables
from pytest_quantbench.engines.torch.kernels.cpu.codebook_words import CODES, Words
from pytest_quantbench.engines.torch.kernels.cpu.machine_code import Instructions, instructions
from pytest_quantbench.engines.torch.kernels.cpu.numbers import SCALES
from pytest_quantbench.engines.torch.kernels.cpu.parts import parts_of, possible
from pytest_quantbench.engines.torch.kernels.cpu.product import CpuProduct, Kind, Plan, aligned
from pytest_quantbench.engines.torch.kernels.protocol import VECTORS, Decode, Product
from pytest_quantbench.quantizers import Array, Layer
from pytest_quantbench.quantizers.layer import Codebooks
from pytest_quantbench.quantizers.layer import padding as padding_of

STAGES = range(1, 9)
SHARED = 4096  # words: a codebook of more is the same one for many matrices


def fits(layer: Layer, device: torch.device, dtype: torch.dtype) -> bool:
    """Vectors of up to 16 weights, with codes of 8 or 16 bits."""
    grid = layer.grid
    if not isinstance(grid, Codebooks) or not possible(layer):
        return False
    known = grid.codes.dtype.name in CODES and grid.scales.dtype.name in SCALES and grid.length in VECTORS
    return known and len(grid.codes) in STAGES


def made(layer: Layer, decode: Decode, device: torch.device, dtype: torch.dtype) -> Product:
    """The module for this CPU."""
    return product(layer, instructions())


def product(layer: Layer, cpu: Instructions) -> CpuProduct:
    """The module for a CPU that has such instructions."""
    grid = layer.grid
    assert isinstance(grid, Codebooks)
    kind, arrays, vectors = _tables(grid, cpu) if _by_tables(grid) else _words(grid)
    rows, stored = grid.out_features, grid.in_features + padding_of(grid)
    inputs = grid.in_features if layer.rotation is None else stored
    tile = kind.grid(cpu).rows
    parts = parts_of(layer, rows, inputs, -(-stored // 16) * 16, tile)
    scales = np.broadcast_to(grid.scales, rows)
    held = {"scales": as_torch(np.pad(scales, (0, -rows % tile))), **arrays, **parts.arrays}
    plan = Plan(kind=kind, beside=parts.beside, cpu=cpu)
    name = f"{'tables' if _by_tables(grid) else 'words'}, {len(grid.codes)} × {grid.words.shape[1]} × {grid.length}"
    shared = {"words"} if grid.words.shape[1] >= SHARED else set()
    return CpuProduct(plan, held, {"vectors": vectors, **parts.numbers}, name, parts.covers, shared)


def _by_tables(grid: Codebooks) -> bool:
    return grid.along == "inputs" and grid.words.shape[1] <= WORDS and grid.codes.dtype == np.uint8


def _tables(grid: Codebooks, cpu: Instructions) -> tuple[Kind, Mapping[str, torch.Tensor], int]:
    """Codes (tiles, vectors, stages, rows) of one chunk after the other, words (stages, length, 256), and the length of
    the longest word.
    """
    stages, words, length = grid.words.shape
    kind = Tables(stages=stages, words=words, length=length, scales=grid.scales.dtype.name)
    vectors = grid.codes.shape[2]
    codes = _tiled(grid.codes, codebook_tables.ROWS)  # (tiles, vectors, stages, rows)
    chunk = kind.grid(cpu).chunk // stages  # vectors
    if cpu.looks_up_bytes:
        halves = codes.reshape(*codes.shape[:3], -1, 2, codebook_tables.HALF // 2)
        codes = np.ascontiguousarray(halves.swapaxes(4, 5))
    chunks = [codes[:, first : first + chunk].reshape(-1) for first in range(0, vectors, chunk)]
    values = np.zeros((stages, length, WORDS), np.float32)
    values[:, :, :words] = grid.words.astype(np.float32).swapaxes(1, 2)
    norm = np.sqrt(np.square(values.astype(np.float64)).sum(1).max(keepdims=True)).astype(np.float32).reshape(1)
    arrays = {"codes": np.concatenate(chunks), "words": values, "word_norm": norm * np.float32(1 + 1e-5)}
    return kind, {name: as_torch(array) for name, array in arrays.items()}, vectors


def _words(grid: Codebooks) -> tuple[Kind, Mapping[str, torch.Tensor], int]:
    """Codes (tiles, vectors, stages, rows or vectors of rows), and words as they are."""
    stages, words, length = grid.words.shape
    along = grid.along == "inputs"
    values = _words_as_kept(grid.words)
    kind = Words(
        along_inputs=along, stages=stages, words=words, length=length, codes=grid.codes.dtype.name,
        numbers="float16" if values.dtype == torch.float16 else "float32", scales=grid.scales.dtype.name,
    )  # fmt: skip
    per_tile = codebook_words.ROWS if along else codebook_words.ROWS // length
    codes = _tiled(grid.codes, per_tile).view(np.uint8)
    return kind, {"codes": as_torch(codes), "words": values}, grid.codes.shape[2]


def _tiled(codes: Array, rows: int) -> Array:
    """(stages, outputs, vectors) → (tiles, vectors, stages, rows), with zeros for rows that are missing at the end."""
    stages, outs, vectors = codes.shape
    padded = np.pad(codes, ((0, 0), (0, -outs % rows), (0, 0)))
    return np.ascontiguousarray(padded.reshape(stages, -1, rows, vectors).transpose(1, 3, 0, 2))


_shared: dict[int, tuple[Array, torch.Tensor]] = {}  # by the address of an array, which is held so that it stays


def _words_as_kept(words: Array) -> torch.Tensor:
    """In float16 where that says the same, else in float32; once for all matrices that have the same array."""
    if words.shape[1] < SHARED:
        return _narrowed(words)
    if id(words) not in _shared:
        _shared[id(words)] = (words, _narrowed(words))
    return _shared[id(words)][1]


def _narrowed(words: Array) -> torch.Tensor:
    whole, half = words.astype(np.float32), words.astype(np.float16)
    return aligned(as_torch(half if np.array_equal(half.astype(np.float32), whole) else whole))
