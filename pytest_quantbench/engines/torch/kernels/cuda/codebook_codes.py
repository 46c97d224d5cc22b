"""Codes and words of codebooks as the kernels read them: rows of 32-bit cells, narrow codes apart from wide ones.

A stage whose codes are all below 256 has four to a cell, others two. Words are float16 where that is as exact as the
activations are. Those of the lattice E8P are not stored at all: 256 rows of sizes stand for them.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_quantbench.quantizers import Array
from pytest_quantbench.quantizers.layer import Codebooks
from pytest_quantbench.quantizers.numerics import e8_lattice

LOSS = 2.0**-11  # of an array's size that float16 may cost
NARROW = 256  # words that a byte can name
TILE, GROUP = 32, 16  # vectors and rows that lie together
LATTICE_BITS = (2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages of one width: codes (stages, rows, cells) int32, words (stages, count, length)."""

    codes: torch.Tensor
    words: torch.Tensor

    @property
    def count(self) -> int:
        """How many words a codebook has."""
        return self.words.shape[1] if self.words.ndim == 3 else 0


def lattice_bits(grid: Codebooks) -> int | None:
    """Bits of a weight, where the words are those of E8P; None for any others."""
    return next((bits for bits in LATTICE_BITS if grid.words is e8_lattice.stages(bits)), None)


def stages_of(grid: Codebooks) -> tuple[Stages, Stages]:
    """The narrow and the wide ones of a matrix; there may be none."""
    narrow = np.array([int(codes.max(initial=0)) < NARROW for codes in grid.codes])
    lattice = lattice_bits(grid)
    if lattice is not None:
        narrow = np.array([(stage, lattice) == (1, 3) for stage in range(len(grid.codes))])
    fine = grid.words[narrow][:, :NARROW]
    wide = _sizes() if lattice is not None else narrowed(grid.words[~narrow])
    return (
        Stages(codes=_cells(grid.codes[narrow].astype(np.uint8)), words=narrowed(fine)),
        Stages(codes=_cells(grid.codes[~narrow].astype(np.uint16)), words=wide),
    )


def tiled(codes: NDArray[np.uint8] | NDArray[np.uint16]) -> torch.Tensor:
    """(stages, rows, vectors) codes below 256 → (stages, tiles, groups, 32, 16) uint8 (see `word_tables`), filled up
    with code 0.
    """
    stages, rows, vectors = codes.shape
    whole = np.pad(codes.astype(np.uint8), ((0, 0), (0, -rows % GROUP), (0, -vectors % TILE)))
    parts = whole.reshape(stages, -1, GROUP, whole.shape[2] // TILE, TILE)  # groups, of a group, tiles, of a tile
    return torch.from_numpy(np.ascontiguousarray(parts.transpose(0, 3, 1, 4, 2)))


def _cells(codes: NDArray[np.uint8] | NDArray[np.uint16]) -> torch.Tensor:
    """(stages, rows, codes) → (stages, rows, cells) int32, filled up with code 0."""
    more = -codes.shape[2] % (4 // codes.itemsize)
    whole = np.ascontiguousarray(np.pad(codes, ((0, 0), (0, 0), (0, more))))
    return torch.from_numpy(whole.view(np.int32))


@cache
def _sizes() -> torch.Tensor:
    """(256,) int32: the sizes of a lattice word's row, doubled, in fields of 3 bits; bit 24: their sum is odd."""
    rows = e8_lattice.rows().astype(np.int64)
    fields = ((2 * rows + 1) << (3 * np.arange(e8_lattice.WIDTH))).sum(1)
    odd = (rows.sum(1) + e8_lattice.WIDTH // 2) % 2
    return torch.from_numpy((fields | odd << 24).astype(np.int32))


def narrowed(numbers: Array) -> torch.Tensor:
    """As float16, where that costs little; else float32."""
    exact = numbers.astype(np.float32)
    half = np.clip(exact, -65504, 65504).astype(np.float16)
    lost = np.linalg.norm(half.astype(np.float32) - exact)
    return torch.from_numpy(half if lost <= LOSS * np.linalg.norm(exact) else exact)
