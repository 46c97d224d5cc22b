"""Codebooks cut from the lattice E8: 2^16 words for 8 weights (E8P), and a second stage for 3 and 4 bits per weight.

Source: Tseng et al. 2024 (QuIP#, arXiv 2402.04396, §4). E8, the densest packing of 8 dimensions, moved by a quarter in
every coordinate is made of two halves: vectors of half-integers with an even sum, plus ¼ everywhere or minus ¼
everywhere. A word is therefore a row of magnitudes ½, 3/2, 5/2 (8 bits: the 227 rows of squared norm up to 10 and 29 of
the 56 with five 3/2 and three ½), seven signs (the even sum gives the eighth) and the direction of the shift.

The nearest word is found exactly without a search of the table. Rank the magnitudes of the shifted vector: among the
rows of one kind (so many 5/2, so many 3/2) the best has its largest values where the vector has, so it is enough to
compare seven kinds. Where the vector's signs make the sum odd, its smallest coordinate gets the wrong one. It has
magnitude ½ then, as it must: instead of −3/2 in place of 3/2 there would be the nearer ½. Only the 29 rows are not all
of their kind, and are tried one by one for the few vectors that they might suit.

A second stage encodes what the first left, magnified: at 3 bits with 256 words (zero, the 240 shortest vectors of E8,
15 of the axes' ±2), at 4 bits with E8P again. Where we differ: the paper's first stage takes its nearest word; ours
tries the nearest of either shift and keeps what is better after the second stage (0.2 dB at 4 bits for a Gaussian).
"""

from functools import cache
from itertools import accumulate, product
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Codes = tuple[NDArray[np.uint16] | Bytes, ...]  # of every stage
Keys = NDArray[np.int32]
WIDTH = 8
RMS = MappingProxyType({2: 1.03, 3: 1.0, 4: 0.9})  # of Gaussian values for which the words fit best
FINER = MappingProxyType({3: np.float32(1.85), 4: np.float32(3.7)})  # how much the second stage is magnified
KINDS = MappingProxyType({2: (np.uint16,), 3: (np.uint16, np.uint8), 4: (np.uint16, np.uint16)})  # of the codes
CHUNK = 4096  # vectors encoded at a time: their intermediate values stay in the cache
_SHIFT = np.float32(0.25)
_NEVER = np.int32(np.iinfo(np.int32).max)
_DIGITS = (3 ** np.arange(WIDTH)).astype(np.float32)
_SIGN_BITS = np.array([2, 4, 8, 16, 32, 64, 128, 0], np.float32)


@cache
def rows() -> Bytes:
    """(256, 8) magnitudes less ½: the 227 of squared norm up to 10, then 29 of those with five 3/2 and three ½."""
    every = np.array(list(product(range(3), repeat=WIDTH)), np.uint8)
    norm = ((every + 0.5) ** 2).sum(1)
    outer = every[(norm == 12) & (every.max(1) == 1)]
    return np.concatenate([every[norm <= 10], outer[:29]])


@cache
def table() -> Matrix:
    """(65536, 8): the words. The bits of an index from the highest: 8 of the row, 7 of signs, 1 of the shift."""
    magnitude = rows().astype(np.float32) + np.float32(0.5)
    signs = np.arange(128)[:, None] >> np.arange(WIDTH - 1) & 1
    odd = (magnitude.sum(1)[:, None] + signs.sum(1)) % 2 == 1  # (256, 128)
    negative = np.concatenate([np.broadcast_to(signs == 1, (256, 128, 7)), odd[..., None]], axis=2)
    words = np.where(negative, -magnitude[:, None], magnitude[:, None])
    return np.stack([words + _SHIFT, words - _SHIFT], axis=2).reshape(-1, WIDTH)


@cache
def coarse_table() -> Matrix:
    """(256, 8): the words of the second stage at 3 bits."""
    short = np.array([v for v in product((-1, 0, 1), repeat=WIDTH) if sum(map(abs, v)) == 2])
    halves = np.array([v for v in product((-0.5, 0.5), repeat=WIDTH) if sum(v) % 2 == 0])
    axes = np.concatenate([2 * np.eye(WIDTH), -2 * np.eye(WIDTH)])[:15]
    return np.concatenate([np.zeros((1, WIDTH)), short, halves, axes]).astype(np.float32)


@cache
def _row_bits() -> NDArray[np.uint16]:
    """(3^8,): the row whose magnitudes less ½ are the digits of the position, as the bits of a word's index."""
    bits = np.zeros(3**WIDTH, np.uint16)
    bits[(rows() @ _DIGITS).astype(np.intp)] = np.arange(256) << 8
    return bits


@cache
def _outer() -> tuple[tuple[Matrix, Bytes, Mask], ...]:
    """The 29 rows as they are (for an odd number of signs), and with the wrong sign for one ½ (for an even number).

    For each: (n, 8) weights whose product with the magnitudes is the gain plus 10, the rows, the wrong signs.
    """
    plain = rows()[-29:]
    row, place = np.nonzero(plain == 0)
    wrong = np.arange(WIDTH) == place[:, None]
    none = np.zeros((29, WIDTH), bool)
    return tuple((2 * r.astype(np.float32) - 2 * w, r, w) for r, w in ((plain, none), (plain[row], wrong)))


@cache
def _exchanges() -> list[tuple[int, int]]:
    """Batcher's odd-even merge of 8 values: which pairs to put into order, 19 of them."""
    return [
        (low, low + step)
        for run in (1, 2, 4)
        for step in (run >> halving for halving in range(run.bit_length()))
        for start in range(step % run, WIDTH - step, 2 * step)
        for low in range(start, min(start + step, WIDTH - step))
        if low // (2 * run) == (low + step) // (2 * run)
    ]


def _ranked(keys: Keys) -> list[Keys]:
    """(8, n) → every column in descending order, as eight rows."""
    ranked = list(keys)
    for low, high in _exchanges():
        one, other = ranked[low], ranked[high]
        ranked[low], ranked[high] = np.maximum(one, other), np.minimum(one, other)
    return ranked


def _best_kind(ranked: list[Keys], odd: Mask) -> tuple[Matrix, Keys, Keys, Matrix]:
    """For every column the best kind of row: its gain, from which key on it has 3/2, and 5/2.

    The gain is that of 2 ⟨row, vector⟩ − |row|² over a row of ½ with the vector's own signs. The last array is what
    five 3/2 would gain if every such row were a word. No `where`: on random masks it is ten times slower than products.
    """
    value = [keys.view(np.float32) for keys in ranked]
    wrong = 2 * value[-1]
    penalty = (wrong * odd, wrong * ~odd)  # for rows with an even and an odd sum
    gain, three, five = -penalty[0], np.full_like(ranked[0], _NEVER), np.full_like(ranked[0], _NEVER)
    steps = list(accumulate(2 * value[rank] - 2 for rank in range(5)))  # of raising the first ranks to 3/2
    kinds = [(steps[0], 1, 0), (steps[1], 2, 0), (steps[2], 3, 0), (steps[3], 4, 0)]  # gain, how many ≥ 3/2, = 5/2
    for gained, high, highest in [*kinds, (steps[0] + 2 * value[0] - 4, 1, 1), (steps[1] + 2 * value[0] - 4, 2, 1)]:
        gained = gained - penalty[(high + highest) % 2]
        better = gained > gain
        gain = np.maximum(gain, gained)
        three += better * (ranked[high - 1] - three)
        if highest:
            five += better * (ranked[0] - five)
    return gain, three, five, steps[4] - penalty[1]


def _nearest_rows(size: Matrix, odd: Mask) -> tuple[Bytes, Mask]:
    """(8, n) magnitudes, and whether a column has an odd number of signs → its row and its wrong sign, both (8, n)."""
    keys = size.view(np.int32) & ~np.int32(7) | np.arange(WIDTH, dtype=np.int32)[:, None]  # ranks as floats, no ties
    ranked = _ranked(keys)
    gain, three, five, hoped = _best_kind(ranked, odd)
    row = (keys >= three).astype(np.uint8) + (keys >= five)
    parity = np.bitwise_xor.reduce(row, axis=0) & 1 == 1
    wrong = (keys == ranked[-1]) & (odd ^ parity)
    for outer_odd, (weights, outer_rows, outer_wrong) in zip((True, False), _outer(), strict=True):
        places = np.flatnonzero((hoped > gain) & (odd == outer_odd))
        scores = size[:, places].T @ weights.T - 10
        best = scores.argmax(1)
        won = scores[np.arange(len(places)), best] > gain[places]
        row[:, places[won]] = outer_rows[best[won]].T
        wrong[:, places[won]] = outer_wrong[best[won]].T
    return row, wrong


def _of_either_shift(vectors: Matrix) -> tuple[NDArray[np.uint16], Matrix]:
    """(8, n) → the nearest word with the shift up and with the shift down: (2, n) indices, (2, 8, n) words."""
    count = vectors.shape[1]
    moved = np.concatenate([vectors - _SHIFT, vectors + _SHIFT], axis=1)
    negative = np.signbit(moved)
    row, wrong = _nearest_rows(np.abs(moved), np.bitwise_xor.reduce(negative, axis=0))
    negative ^= wrong
    words = (row + np.float32(0.5)) * (1 - 2 * negative.view(np.int8))
    shifted = words.reshape(WIDTH, 2, count).swapaxes(0, 1) + np.array([_SHIFT, -_SHIFT])[:, None, None]
    digits = (_DIGITS @ row.astype(np.float32)).astype(np.intp)
    signs = (_SIGN_BITS @ negative.astype(np.float32)).astype(np.uint16)
    indices = (_row_bits()[digits] | signs).reshape(2, count)
    indices[1] |= 1
    return indices, shifted


def _nearest_coarse(vectors: Matrix) -> tuple[Codes, Matrix]:
    """(8, n) → the nearest words of the coarse table, all of them tried."""
    words = coarse_table()
    half = (words**2).sum(1) / 2
    tiles = np.array_split(vectors.T, -(-vectors.shape[1] // 1024))  # (1024, 256) scores stay in the cache
    codes = np.concatenate([(tile @ words.T - half).argmax(1) for tile in tiles])
    return (codes.astype(np.uint8),), words[codes].T


def _nearest(vectors: Matrix, bits: int) -> tuple[Codes, Matrix]:
    """`nearest` for one chunk."""
    indices, words = _of_either_shift(vectors)
    codes: Codes = (indices,)
    if bits > 2:
        left = ((vectors - words) * FINER[bits]).swapaxes(0, 1)  # (8, 2, n)
        flat = left.reshape(WIDTH, -1)
        (fine,), steps = _nearest_coarse(flat) if bits == 3 else _nearest(flat, 2)
        codes = (indices, fine.reshape(2, -1))
        words = words + (steps / FINER[bits]).reshape(left.shape).swapaxes(0, 1)
    distance = ((words - vectors) ** 2).sum(1)
    down = distance[1] < distance[0]
    return tuple(np.where(down, code[1], code[0]) for code in codes), np.where(down, words[1], words[0])


def nearest(vectors: Matrix, bits: int) -> tuple[Codes, Matrix]:
    """(8, n) vectors → every stage's codes (n,), and what they stand for (8, n). Exactly the nearest at 2 bits."""
    parts = [_nearest(vectors[:, start : start + CHUNK], bits) for start in range(0, vectors.shape[1], CHUNK)]
    codes = tuple(np.concatenate(stage) for stage in zip(*(codes for codes, _ in parts), strict=True))
    return codes, np.concatenate([words for _, words in parts], axis=1)


@cache
def stages(bits: int) -> Matrix:
    """(stages, 65536, 8): the words of each stage, those of a second one as small as they are in the sum.

    256 words are filled up with zeros. The same array every time, which is not to be written into.
    """
    words = np.zeros((1 if bits == 2 else 2, len(table()), WIDTH), np.float32)
    words[0] = table()
    if bits > 2:
        fine = (coarse_table() if bits == 3 else table()) / FINER[bits]
        words[1, : len(fine)] = fine
    words.flags.writeable = False
    return words


def lookup(codes: Codes, bits: int) -> Matrix:
    """The codes of each stage, of any shape → (…, 8)."""
    words = table()[codes[0]]
    if bits == 2:
        return words
    return words + (coarse_table() if bits == 3 else table())[codes[1]] / FINER[bits]
