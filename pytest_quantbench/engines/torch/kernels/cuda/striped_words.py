"""Codes of a few bits in the order in which a warp reads them: stripes of four units, 16 bytes a thread.

A *unit* is the fewest whole 32-bit words that codes of some width fill: 16 codes of 2 bits, 8 of 4 or 4 of 8 in one
word, 32 of 3 bits in three. A *stripe* is four units side by side: one 16-byte load of a thread (three of them at 3
bits, each from a plane of its own). Code j of unit u of stripe t is the weight at column t · 4 C + 4 j + u, where C is
how many codes a unit has. So the four weights that one shift brings to light lie at four columns in a row, and so do
the inputs that they meet; and a stripe spans few groups, whose scales are then read once.

Not a bit is added but where rows end within a stripe. Three bits: words 0, 1 and 2 hold codes 0–9, 10–19 and 20–29 in
their lowest 30 bits; code 30 has its low two bits on top of word 0 and its high one in bit 30 of word 2, code 31 on top
of word 1 and in bit 31 of word 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_quantbench.quantizers.layer import Affine, Grid, Microscaled

UNITS = 4  # in a stripe
WHOLE = 1 << 30  # columns
LEAST = 16  # columns of a group, and the power of two that has to divide it: what matrix units take
CHUNK = 2**23  # codes that are laid out together


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """How codes of so many bits lie in 32-bit words."""

    bits: int
    in_word: int  # whole codes in one word
    words: int  # of a unit
    codes: int  # in a unit

    @property
    def stripe(self) -> int:
        """Columns of a stripe."""
        return UNITS * self.codes

    def stripes(self, columns: int) -> int:
        """How many it takes for rows of this length."""
        return -(-columns // self.stripe)


WIDTHS: Mapping[int, Width] = {
    2: Width(bits=2, in_word=16, words=1, codes=16),
    3: Width(bits=3, in_word=10, words=3, codes=32),
    4: Width(bits=4, in_word=8, words=1, codes=8),
    8: Width(bits=8, in_word=4, words=1, codes=4),
}


def group_of(grid: Affine | Microscaled) -> int:
    """How many columns share a scale; a whole row of whatever length counts as 2^30."""
    return WHOLE if grid.scales.shape[1] == 1 else grid.group


def can_be_striped(grid: Grid | None) -> bool:
    """Whether there is a layout for its codes, and stripes have whole groups, or groups whole stripes."""
    if not isinstance(grid, Affine | Microscaled) or grid.bits not in WIDTHS:
        return False
    stripe, group = WIDTHS[grid.bits].stripe, group_of(grid)
    return group & -group >= LEAST and (group % stripe == 0 or stripe % group == 0)


def striped(packed: NDArray[np.uint32], width: Width, device: torch.device) -> torch.Tensor:
    """(out, columns × bits / 32) little-endian streams of codes → (out, words of a unit, 4 × stripes) int32."""
    rows, columns = len(packed), packed.shape[1] * 32 // width.bits
    count = width.stripes(columns)
    result = torch.empty((rows, width.words, count * UNITS), dtype=torch.int32, device=device)
    step = max(1, CHUNK // max(columns, 1))
    for start in range(0, rows, step):
        part = torch.from_numpy(packed[start : start + step].view(np.int32)).to(device)
        codes = torch.nn.functional.pad(_codes(part, width.bits), (0, count * width.stripe - columns))
        units = codes.reshape(len(part), count, width.codes, UNITS).permute(2, 0, 1, 3)  # (codes, rows, stripes, units)
        words = torch.stack(_words(units.reshape(width.codes, len(part), -1), width), dim=1)
        result[start : start + step] = words.to(torch.int32)  # the upper of 32 bits becomes the sign
    return result


def _codes(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """(rows, words) int32 → (rows, codes) int64."""
    wide = torch.nn.functional.pad(packed.long() & 0xFFFFFFFF, (0, 1))
    first = torch.arange(packed.shape[1] * 32 // bits, device=packed.device) * bits
    word, shift = first // 32, first % 32
    return (wide[:, word] | wide[:, word + 1] << 32) >> shift & (1 << bits) - 1


def _words(codes: torch.Tensor, width: Width) -> list[torch.Tensor]:
    """(codes of a unit, rows, units) → its words, each (rows, units) int64."""
    words = [
        sum((codes[word * width.in_word + place] << place * width.bits for place in range(width.in_word)), codes[0] * 0)
        for word in range(width.words)
    ]
    if width.bits == 3:
        words[0] = words[0] | (codes[30] & 3) << 30
        words[1] = words[1] | (codes[31] & 3) << 30
        words[2] = words[2] | codes[30] >> 2 << 30 | codes[31] >> 2 << 31
    return words
