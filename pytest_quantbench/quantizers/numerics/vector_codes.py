"""Codes for short vectors: what the additive and the vector methods store, and the search and start of codebooks.

A matrix is cut into vectors of a few weights, along the inputs or along the outputs. A vector's codes name one word in
each of a few codebooks, and the words' sum, times a scale, is the decoded vector. `codebook_fitting` fits both to the
outputs of a layer. Matrices are held transposed, (in, out), so that a block of inputs is contiguous.
"""

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.numerics import bit_packing

Matrix = NDArray[np.float32]
Points = NDArray[np.float32]  # (…, length)
Books = NDArray[np.float32]  # (stages, words, length)
Codes = NDArray[np.uint16]  # (…, stages)
Sums = NDArray[np.float64]

PANEL = 64  # points in one product: so few that BLAS starts no threads, which would cost more than they bring
SCORES = 2**19  # scores held at a time: 2 MB, which stay in the cache
BOOK_SHARE = 1 / 32  # the most that codebooks may add to the codes' own bits
POINTS, ROUNDS = 2**16, 10  # of k-means
LEAST = 2.0**-40  # scale of a row of zeros


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Vectors of `inputs` × `outputs` weights (one of the two is 1), coded by `stages` codes of `width` bits."""

    inputs: int
    outputs: int
    stages: int
    width: int

    @property
    def length(self) -> int:
        """Weights in a vector."""
        return self.inputs * self.outputs

    def cut(self, matrix: Matrix) -> Points:
        """(in, out) → (in / inputs, out / outputs, length)."""
        if self.inputs == 1:
            return matrix.reshape(len(matrix), -1, self.outputs)
        return matrix.reshape(-1, self.inputs, matrix.shape[1]).swapaxes(1, 2)

    def join(self, vectors: Points) -> Matrix:
        """(in / inputs, out / outputs, length) → (in, out)."""
        if self.inputs == 1:
            return vectors.reshape(len(vectors), -1)
        return vectors.swapaxes(1, 2).reshape(-1, vectors.shape[1])


def fit(bits: int, weights: int, longest: int, widest: int, share: float = BOOK_SHARE) -> tuple[int, int, int]:
    """Length, stages and code width of the vectors for a matrix of so many weights, at `bits` per weight.

    The longest vector of `longest`, half of it, … whose float16 codebooks add no more than `share` to the codes' bits,
    so that a small matrix does not pay more for the codebooks than for the codes; single weights if none is small
    enough. The bits of a vector are split evenly among as few codebooks of at most 2^widest words as will do.
    """
    length = longest
    while True:
        total = bits * length
        stages = next(count for count in range(1, total + 1) if total % count == 0 and total // count <= widest)
        width = total // stages
        if length == 1 or 16 * stages * 2**width * length <= share * bits * weights:
            return length, stages, width
        length //= 2


def lookup(codes: Codes, books: Books) -> Points:
    """(…, stages) codes → (…, length) sums of their words."""
    total: Points = books[0].take(codes[..., 0], axis=0)
    for stage in range(1, len(books)):
        total += books[stage].take(codes[..., stage], axis=0)
    return total


def search(points: Points, books: Books, beam: int, weights: Points | None = None) -> Codes:
    """(count, length) → (count, stages) codes whose words' sum is near: exact for one codebook, else a beam search.

    After each codebook the `beam` best partial sums of each point are kept. One product scores them all: the score
    −½‖x − c‖² of word c for what is left, x, is [x, 1, −½‖x‖²] · [c, −½‖c‖², 1], and the winner's score is the next
    −½‖x‖². With `weights` (count, length) for the squares of the differences, it is [wx, w, −½Σwx²] · [c, −½c², 1].
    """
    (stages, words, length), count = books.shape, len(points)
    norms = -0.5 * np.square(books.swapaxes(1, 2))  # (stages, length, words)
    if weights is None:
        norms, weights = norms.sum(1, keepdims=True), np.ones_like(points[:, :1])
    folded = np.concatenate([books.swapaxes(1, 2), norms, np.ones_like(norms[:, :1])], axis=1)
    features = np.zeros((-(-count // PANEL) * PANEL, folded.shape[1]), np.float32)  # whole panels
    features[:count, :length] = points * weights
    features[:count, length:-1] = weights
    step = max(PANEL, SCORES // (words * (beam if stages > 1 else 1)) // PANEL * PANEL)
    parts = [features[start : start + step] for start in range(0, len(features), step)]
    return np.concatenate([_search_together(part, books, folded, beam) for part in parts])[:count]


def distances(points: Points, codes: Codes, books: Books, weights: Points | None = None) -> Points:
    """The squares of the differences that `search` makes small: (count,)."""
    error = points - lookup(codes, books)
    total: Points = np.einsum("ij,ij->i", error, error if weights is None else weights * error)
    return total


def _search_together(features: Points, books: Books, folded: Books, beam: int) -> Codes:
    stages, words, length = books.shape
    weights, rest = features[:, None, length:-1], features[:, None]
    paths, rows = np.zeros((len(features), 1, stages), np.uint16), np.arange(len(features))[:, None]
    for stage in range(stages):
        scores = (rest.reshape(-1, PANEL, rest.shape[2]) @ folded[stage]).reshape(len(features), -1)
        chosen, values = _largest(scores, beam if stage + 1 < stages else 1)
        parent, code = np.divmod(chosen, words)  # (points, beam)
        parent += rows * rest.shape[1]  # among all partial sums
        paths = paths.reshape(-1, stages).take(parent, axis=0)
        paths[:, :, stage] = code
        if stage + 1 < stages:
            rest = rest.reshape(-1, rest.shape[2]).take(parent, axis=0)
            rest[:, :, :length] -= weights * books[stage].take(code, axis=0)
            rest[:, :, -1] = values
    return paths[:, 0]


def _largest(scores: Matrix, count: int) -> tuple[NDArray[np.intp], Matrix]:
    """Places and values of the `count` largest scores of every row, largest first. Overwrites the scores."""
    rows = np.arange(len(scores))
    count = min(count, scores.shape[1])
    chosen, values = np.empty((len(rows), count), np.intp), np.empty((len(rows), count), np.float32)
    for place in range(count):
        chosen[:, place] = index = scores.argmax(axis=1)
        values[:, place] = scores[rows, index]
        if place + 1 < count:
            scores[rows, index] = -np.inf
    return chosen, values


def sums(codes: NDArray[np.integer], values: NDArray[np.floating], words: int) -> Sums:
    """The sum of the values that have each code: (count,), (count, length) → (words, length)."""
    return np.stack([np.bincount(codes, column, words) for column in values.T], axis=1)


def train(vectors: Points, importance: Matrix, layout: Layout, rng: Generator) -> Books:
    """Codebooks for (blocks, vectors, length) vectors, each block with its importance (blocks,): residual k-means."""
    points, weights = vectors.reshape(-1, layout.length), np.repeat(importance.astype(np.float64), vectors.shape[1])
    points, weights = _thinned(points, weights, max(POINTS, 2 * 2**layout.width), rng)
    books = []
    for _ in range(layout.stages):
        books.append(_kmeans(points, weights, 2**layout.width, rng))
        points = points - lookup(search(points, books[-1][None], 1), books[-1][None])
    return np.stack(books)


def _thinned(points: Points, weights: Sums, most: int, rng: Generator) -> tuple[Points, Sums]:
    """A sample that stands for all: what counts much or lies far out is drawn more often, and counts less in return."""
    if len(points) <= most:
        return points, weights
    norms = np.square(points).sum(1)
    odds = weights * (norms + (norms.mean() or 1))
    odds /= odds.sum()
    chosen = rng.choice(len(points), most, p=odds)
    return points[chosen], weights[chosen] / odds[chosen]


def _kmeans(points: Points, weights: Sums, words: int, rng: Generator) -> Matrix:
    """Weighted k-means. The codebook starts from one word and doubles with every round until it is full.

    A word that nobody uses, as half of them are after doubling, becomes one of the points that cost most: each is drawn
    with odds as its cost. So dense regions get their share, and a point far away from all others gets its word.
    """
    book, rounds = points[:1], ROUNDS if words > 64 else 2 * ROUNDS  # twice as many where they are cheap
    for _ in range(words.bit_length() - 1 + rounds):
        if len(book) < words:
            book = np.concatenate([book, book])
        code = search(points, book[None], 1)
        mass = np.bincount(code[:, 0], weights, len(book))
        means = sums(code[:, 0], points * weights[:, None], len(book)) / np.where(mass > 0, mass, 1)[:, None]
        unused = np.flatnonzero(mass == 0)
        if len(unused):
            means[unused] = points[_draw(weights * distances(points, code, book[None]), len(unused), rng)]
        book = means.astype(np.float32)
    return book


def _draw(odds: Sums, count: int, rng: Generator) -> NDArray[np.intp]:
    """Places of `count` different points, drawn one after the other with the given odds; again from the first if few.

    The first of many clocks to ring, each an exponential time with its own rate, is drawn with odds as the rates. The
    largest odds come first in any case, so that a point far from all others is never left out by chance.
    """
    times = rng.exponential(size=len(odds)) / np.maximum(odds, 1e-300)
    times[odds.argmax()] = 0
    return np.resize(np.argsort(times), count)


def check(name: str, *, bits: int, codebook_bits: int, **lengths: int) -> None:
    """Raise QuantbenchError for parameters that make no vector code."""
    allowed = {"bits": range(1, 9), "codebook_bits": range(1, 17), **dict.fromkeys(lengths, (1, 2, 4, 8, 16))}
    for field, value in {"bits": bits, "codebook_bits": codebook_bits, **lengths}.items():
        if value not in allowed[field]:
            choices = ", ".join(map(str, allowed[field]))
            raise QuantbenchError(f"{name} cannot have {field} = {value}; choose from {choices}.")


def row_scales(bits: int, ins: int) -> bool:
    """Whether rows of `ins` weights have a scale each: where it adds no more than a 128th of the codes' bits."""
    return bits * ins >= 16 * 128


def scales(weight: Matrix, rows: bool) -> Matrix:
    """Root mean squares of an (in, out) matrix as bfloat16 holds them: (1, out) of its rows Wᵀ, or (1, 1) of all."""
    power = np.square(weight).mean(0 if rows else None, keepdims=True)
    rounded: Matrix = np.sqrt(power).astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
    return np.maximum(rounded, np.float32(LEAST))


def note(layout: Layout, asked: int, bits: int, shape: tuple[int, int]) -> str:
    """What a layout that was asked to have vectors of `asked` weights does otherwise for an (out, in) matrix."""
    (outs, ins), changes = shape, []
    if layout.length != asked:
        books = f"{layout.stages} codebook{'s' * (layout.stages > 1)} of {2**layout.width} words"
        changes.append(f"vectors of {layout.length} instead of {asked} weights with {books}")
    for what, length, block in (("rows", ins, layout.inputs), ("columns", outs, layout.outputs)):
        if length % block:
            changes.append(f"{what} padded from {length} to {-(-length // block) * block}")
    if not row_scales(bits, ins):
        changes.append("one scale for all rows")
    return ", ".join(changes)


def stored(codes: Codes, width: int) -> NDArray[np.uint8]:
    """All codes as one stream of bytes, filled up with zeros to whole words."""
    flat = codes.reshape(1, -1)
    stream: NDArray[np.uint8] = bit_packing.pack(np.pad(flat, ((0, 0), (0, -flat.size % 8))), width)[0]
    return stream


def read(stream: NDArray[np.uint8], layout: Layout, ins: int, outs: int) -> bit_packing.Codes:
    """The codes of a stored stream: (in / inputs, out / outputs, stages), uint8 up to 8 bits, else uint16."""
    shape = (-(-ins // layout.inputs), -(-outs // layout.outputs), layout.stages)
    return bit_packing.unpack(stream[None], layout.width)[0, : math.prod(shape)].reshape(shape)


def decoded(stream: NDArray[np.uint8], books: Books, layout: Layout, ins: int, outs: int) -> Matrix:
    """The (in, out) matrix of a stored stream of codes, without its scales; padded to whole vectors."""
    return layout.join(lookup(read(stream, layout, ins, outs).astype(np.uint16, copy=False), books))
