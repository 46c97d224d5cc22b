"""Codes and codebooks that leave a layer's outputs as they were: the least tr((W − Ŵ) H (W − Ŵ)ᵀ) for vector codes.

Shared by the additive and the vector method. Three moves lower the error, all of it measured on the calibration
inputs: codes of all blocks of inputs in order, each error made up for by the blocks after it; codes of one block at a
time with all others fixed; and codebooks by least squares with all codes fixed. Codebooks are fitted on a sample of the
outputs, for a few hundred words need no more, and every move is a few large matrix products.

Matrices are held transposed, (in, out), so that a block of inputs is contiguous.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pytest_quantbench.quantizers.numerics import error_feedback, vector_codes
from pytest_quantbench.quantizers.numerics.vector_codes import Books, Codes, Layout, Matrix, Points, Sums

Index = NDArray[np.intp]
DAMPING = 0.01
SAMPLE = 1024  # outputs on which codebooks are fitted
LOUDEST = np.float32(16)  # ordinary outputs: what an output may count when codebooks are fitted
STEPS = 5  # of conjugate gradients in one fit
STALLED = 0.005  # a round that lowers the error by less (0.02 dB) is the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One matrix and its Hessian, in the order in which the blocks of inputs are coded."""

    weight: Matrix  # (in, out), the largest weight between 1 and 2
    hessian: Matrix  # (in, in), damped
    correction: Matrix  # (in, in), as of `error_feedback.feedback`
    metric: NDArray[np.float32]  # (blocks, block, block)
    order: Index  # (blocks,) the original number of each block
    unit: float  # what 1 is in the original, a power of two


def prepare(weight: Matrix, hessian: Matrix, layout: Layout) -> Problem:
    """Normalise an (out, in) matrix and sort its blocks of inputs: those with the largest inputs are coded first,
    while most of the others are still open to make up for their errors.

    Inputs are padded to whole blocks, with zeros that hardly count, and outputs to whole vectors, with rows repeated.
    """
    (outs, ins), block = weight.shape, layout.inputs
    peak = float(np.abs(weight).max())
    unit = float(2.0 ** (np.frexp(peak)[1] - 1)) if peak else 1.0
    damped = error_feedback.damped(np.pad(hessian, (0, -ins % block)), DAMPING)
    diagonal = np.einsum("ii->i", damped)
    diagonal[ins:] = DAMPING * diagonal[:ins].mean()
    order = np.argsort(-np.diag(damped).reshape(-1, block).sum(1), kind="stable")
    inputs = (order[:, None] * block + np.arange(block)).ravel()
    sorted_hessian = damped.astype(np.float32)[inputs][:, inputs]
    del damped
    correction, metric = error_feedback.feedback(sorted_hessian.astype(np.float64), block)
    tall = np.pad((weight / np.float32(unit)).T, ((0, -ins % block), (0, 0)))[inputs]
    tall = np.pad(tall, ((0, 0), (0, -outs % layout.outputs)), mode="wrap")
    return Problem(weight=tall, hessian=sorted_hessian, correction=correction, metric=metric, order=order, unit=unit)


@dataclass(slots=True)
class Coder:
    """Blocks of inputs that share codebooks, and their codes."""

    layout: Layout
    blocks: Index  # which blocks of the problem
    scale: Matrix  # (1, 1 or out)
    books: Books
    codes: Codes  # (blocks, vectors in a block, stages)
    beam: int

    @property
    def inputs(self) -> Index:
        """The rows of the problem's weight that are coded here."""
        size = self.layout.inputs
        return (self.blocks[:, None] * size + np.arange(size)).ravel()

    def decoded(self) -> Matrix:
        """The (in, out) matrix that the codes stand for."""
        dense = self.layout.join(vector_codes.lookup(self.codes, self.books))
        dense *= self.scale
        return dense

    def counts(self) -> Matrix:
        """What a squared error of each output counts before its scale, (1, 1 or out): the square of the scale.

        At most as `LOUDEST` ordinary outputs, for one with a huge weight would have all that it shares to itself.
        """
        power = np.square(self.scale)
        most: Matrix = np.minimum(power, LOUDEST * np.median(power))
        return most

    def weights(self) -> Points | None:
        """What a squared difference counts at each place of a vector whose outputs have scales of their own."""
        alike = self.layout.outputs == 1 or self.scale.shape[1] == 1
        return None if alike else self.counts().reshape(-1, self.layout.outputs)

    def part(self, outputs: Index) -> "Coder":
        """A coder of its own for some of the outputs: whole vectors of them."""
        places = outputs[:: self.layout.outputs] // self.layout.outputs
        scale = self.scale if self.scale.shape[1] == 1 else self.scale[:, outputs]
        return replace(self, scale=scale, codes=self.codes[:, places])

    def choose(self, place: int, target: Matrix, metric: Matrix, keep: bool = False) -> Matrix:
        """Code block `place`: (inputs, out) target → what it decodes to, nearest in tr(Eᵀ · metric · E).

        With `keep`, a code stays where the search (which is not exhaustive) found none that is better.
        """
        points, books = self.layout.cut(target / self.scale)[0], self.books
        if self.layout.inputs > 1:  # with metric = F Fᵀ, the distance is the plain one once all is multiplied by F
            factor = np.linalg.cholesky(metric)
            points, books = points @ factor, books @ factor
        weights = self.weights()
        found = vector_codes.search(points, books, self.beam, weights)
        if keep:
            now, before = (vector_codes.distances(points, each, books, weights) for each in (found, self.codes[place]))
            found = np.where((now < before)[:, None], found, self.codes[place])
        self.codes[place] = found
        return self.layout.join(vector_codes.lookup(found, self.books)[None]) * self.scale


def start(
    problem: Problem, layout: Layout, blocks: Index, scale: Matrix, importance: Matrix, beam: int, rng: Generator
) -> Coder:
    """A coder with codebooks trained on the plain weights of its blocks."""
    coder = Coder(layout, blocks, scale, np.empty(0, np.float32), np.empty(0, np.uint16), beam)
    vectors = layout.cut(problem.weight[coder.inputs] / scale)
    books = vector_codes.train(vectors, importance, layout, rng)
    return replace(coder, books=books, codes=np.zeros((*vectors.shape[:2], layout.stages), np.uint16))


def solve(problem: Problem, coders: Sequence[Coder], warm_up: int, rounds: int, rng: Generator) -> None:
    """Find all codes, and better codebooks."""
    outputs = _sample(problem.weight.shape[1], max(coder.layout.outputs for coder in coders), rng)
    part = problem.weight[:, outputs]
    few = [coder.part(outputs) for coder in coders]
    for _ in range(warm_up):
        refit(problem, part - feed(problem, part, few), few)
    _adopt(coders, few)
    decoded, before = feed(problem, problem.weight, coders), np.inf
    for _ in range(rounds):
        few = [coder.part(outputs) for coder in coders]
        refit(problem, part - decoded[:, outputs], few)
        _adopt(coders, few)
        for coder in coders:
            decoded[coder.inputs] = coder.decoded()
        error = descend(problem, decoded, coders)
        if error >= (1 - STALLED) * before:
            break
        before = error


def _adopt(coders: Sequence[Coder], others: Sequence[Coder]) -> None:
    """Take over the others' codebooks, as precise as they will be stored."""
    for coder, other in zip(coders, others, strict=True):
        coder.books = other.books.astype(np.float16).astype(np.float32)


def _sample(outputs: int, vector: int, rng: Generator) -> Index:
    """Some of the outputs, whole vectors of them."""
    count = outputs // vector
    chosen = np.sort(rng.choice(count, min(count, -(-SAMPLE // vector)), replace=False))
    return (chosen[:, None] * vector + np.arange(vector)).ravel()


def _plan(coders: Sequence[Coder]) -> dict[int, tuple[Coder, int]]:
    """Who codes each block of inputs, and as which of its own blocks."""
    return {int(block): (coder, place) for coder in coders for place, block in enumerate(coder.blocks)}


def feed(problem: Problem, weight: Matrix, coders: Sequence[Coder]) -> Matrix:
    """Code all blocks in order, each error made up for by the blocks after it (`error_feedback.sweep`); the decoded."""
    size, plan = problem.metric.shape[1], _plan(coders)

    def encode(begin: int, target: Matrix) -> Matrix:
        coder, place = plan[begin // size]
        return coder.choose(place, target, problem.metric[begin // size])

    return error_feedback.sweep(weight, problem.correction, size, encode)


def descend(problem: Problem, decoded: Matrix, coders: Sequence[Coder]) -> float:
    """Code every block of inputs anew with all others fixed; returns the error tr((W − Ŵ) H (W − Ŵ)ᵀ) before.

    With the pull P = H (W − Ŵ), the best block is Ŵ_B + H_BB⁻¹ P_B, at the distance that H_BB measures. `decoded` is
    brought up to date. O(out × in²) in large products: halves within halves, as `error_feedback.sweep`.
    """
    hessian, size, plan = problem.hessian, problem.metric.shape[1], _plan(coders)
    pull = hessian @ (problem.weight - decoded)
    before = float(np.einsum("ij,ij->", problem.weight - decoded, pull, dtype=np.float64))

    def visit(begin: int, end: int) -> None:
        if end - begin > size:
            middle = begin + (end - begin) // size // 2 * size
            visit(begin, middle)
            pull[middle:end] -= hessian[middle:end, begin:middle] @ pull[begin:middle]
            visit(middle, end)
            return
        (coder, place), metric = plan[begin // size], hessian[begin:end, begin:end]
        new = coder.choose(place, decoded[begin:end] + np.linalg.inv(metric) @ pull[begin:end], metric, keep=True)
        np.subtract(new, decoded[begin:end], out=pull[begin:end])  # from here on these rows hold their change
        decoded[begin:end] = new

    visit(0, len(decoded))
    return before


def refit(problem: Problem, error: Matrix, coders: Sequence[Coder]) -> None:
    """Move the codebooks towards the least output error, codes fixed; `error` (in, out) is brought up to date."""
    for coder in coders:
        inputs = coder.inputs if len(coders) > 1 else slice(None)
        before = coder.decoded()
        _refit(coder, problem.hessian[inputs][:, inputs], problem.hessian[inputs] @ error)
        error[inputs] += before - coder.decoded()


def _refit(coder: Coder, hessian: Matrix, pull: Matrix) -> None:
    flat, words = coder.codes.reshape(-1, coder.layout.stages), coder.books.shape[1]
    counts = coder.counts() / coder.scale

    def gather(matrix: Matrix) -> Sums:
        points = coder.layout.cut(matrix * counts).reshape(-1, coder.layout.length)
        return np.stack([vector_codes.sums(column, points, words) for column in flat.T])

    def curve(change: Sums) -> Sums:
        return gather(hessian @ replace(coder, books=change.astype(np.float32)).decoded())

    diagonal = gather(np.broadcast_to(np.diag(hessian)[:, None] * coder.scale, pull.shape))
    change = conjugate_gradients(curve, gather(pull), np.where(diagonal > 0, diagonal, 1), STEPS)
    coder.books = (coder.books + change).astype(np.float32)


def conjugate_gradients(curve: Callable[[Sums], Sums], rest: Sums, diagonal: Sums, steps: int) -> Sums:
    """x with curve(x) ≈ rest, from x = 0, preconditioned by the diagonal."""
    solution, steepest = np.zeros_like(rest), rest / diagonal
    direction, power = steepest, float(np.vdot(rest, steepest))
    for _ in range(steps):
        image = curve(direction)
        bend = float(np.vdot(direction, image))
        if bend <= 0:  # nothing is left but rounding noise
            break
        solution = solution + power / bend * direction
        rest = rest - power / bend * image
        steepest = rest / diagonal
        power, before = float(np.vdot(rest, steepest)), power
        direction = steepest + power / before * direction
    return solution
