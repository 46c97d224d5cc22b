"""MiLo: group rounding together with a low-rank compensator, each fitted to what the other leaves.

Source: Huang et al. 2025, "MiLo: Efficient Quantized MoE Inference with Mixture of Low-Rank Compensators" (arXiv
2504.02658): W ≈ Q + L R, with Q asymmetric 3-bit codes in groups fitted to W − L R, and L R a quantized low-rank
product fitted to W − Q, in turns until the error stops falling. With calibration every column's squared error counts
by its input's mean square (the Hessian's diagonal); the paper uses none.

A component is worth its bits where many rows go wrong alike: a few large input channels, a decaying spectrum. On
independent weights of a large matrix it is worth little, so the rank is chosen per matrix by what the same bits do
otherwise. The yardstick is half the group size: it costs 32 / group bits more and gains some dB. Of the ranks `rank`,
its half, its quarter, …, with factors of 4 or 8 bits, the one wins that gains most beyond that price. If half the
group is better still, and within `bits` + `budget`, it is stored without a compensator: the result is never larger
than plain rounding in groups of 64, and never worse.

Cost: about 200 passes over the matrix, and products with `rank` columns. Storage: bits + 32 / group per weight; a
factor takes 4.25 or 8.25 bits per entry, which makes 0.033 per weight for rank 16 on 4096 × 4096.

Where we differ: the paper starts with Q, whose residual has little structure left to compensate; we start with the
low-rank part of W, 4 dB better on weights with large channels. Grids are fitted to the squared error from several
starts, not by HQQ. After the paper's last step, the quantized factors, we go on taking turns, so that Q makes up for
their errors. The paper sets the rank by layer type and kurtosis, up to 1,024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Layer
from pytest_quantbench.quantizers.numerics import affine, grid_fitting, low_rank
from pytest_quantbench.quantizers.numerics.grid_fitting import STARTS, Grids, Kind, Matrix
from pytest_quantbench.quantizers.numerics.low_rank import Factors, Sides
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics

FACTOR_BITS = (4, 8)
FREE_TURNS, TRIAL_TURNS = 3, 2  # with exact and with quantized factors: enough to tell which candidate is best,
MORE_TURNS = 6  # for which there are so many more with exact factors
ROUGH: grid_fitting.Starts = ((0.9, 0.0), (0.7, 0.0))  # where grids start while factors are exact
PROMISING = 1.1  # × the error of what is to be beaten: further turns have not made up for more than 0.08
LEAST_GAIN = 1e-3  # of the squared error: a turn that gains less is the last
DAMPING = 0.01  # × the mean is added to every input's importance


@dataclass(frozen=True, slots=True, kw_only=True)
class Milo(Quantizer):
    """Affine codes of `bits` in groups, and at most `rank` quantized components, in `bits` + `budget` per weight."""

    bits: int
    group_size: int = 128
    rank: int = 16
    budget: float = 0.5
    iterations: int = 20

    name: ClassVar[str] = "milo"
    version: ClassVar[int] = 2
    calibration: ClassVar[Calibration] = "optional"

    def __post_init__(self) -> None:
        affine.check(self.name, self.bits, self.group_size)
        if self.rank < 0 or self.iterations < 1:
            raise QuantbenchError(f"{self} cannot be: milo takes a rank of 0 or more and at least one iteration.")

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise for an (out, in) matrix, and whether it got a compensator of which rank."""
        group = affine.group_of(arrays, self.bits)
        rank = f"rank {len(arrays['left'])}" if "left" in arrays else "no compensator"
        return ", ".join(filter(None, [affine.note(weight_shape[1], group, self.bits), f"{rank}, group {group}"]))

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) float → the arrays of affine.store, and with a compensator those of lowrank.store."""
        in_features = weight.shape[1]
        dense, exponent = grid_fitting.normalised(weight)
        importance = _importance(statistics)
        halves = (self.group_size, max(self.group_size // 2, affine.GROUPS[0]))
        fits = dict.fromkeys(affine.fit(in_features, size, self.bits) for size in halves)
        problems = [_problem(dense, exponent, importance, self.bits, *fit) for fit in fits]
        plain = [_Solution(problem=each, grids=_regridded(each, None, None, STARTS)[0]) for each in problems]
        limit = max((self.bits + self.budget) * dense.size, min(each.stored_bits for each in plain))
        best = min((each for each in plain if each.stored_bits <= limit), key=lambda solution: solution.error)
        for each in plain if best.error else []:
            best = self._compensated(each.problem, limit, _price(plain), best, seed)
        return best.arrays(exponent, in_features)

    def _compensated(self, problem: _Problem, limit: float, price: float, rival: _Solution, seed: int) -> _Solution:
        """The best solution with a compensator in `limit` stored bits, if its error is below the rival's; or that."""
        trials, freed = list[_Solution](), dict[int, tuple[Sides, Grids]]()
        for bits in FACTOR_BITS:
            room = (limit - problem.grid_bits) / sum(low_rank.cost(1, size, bits) for size in problem.dense.shape)
            rank, worth = min(self.rank, int(room), *problem.dense.shape), -math.inf
            while rank >= 1:
                if rank not in freed:
                    principal = low_rank.principal(problem.dense, problem.weights, rank, seed)
                    freed[rank] = _free(problem, principal, FREE_TURNS)
                trials.append(_settled(problem, *freed[rank], bits, TRIAL_TURNS))
                if trials[-1].worth(price) <= worth:
                    break
                worth = trials[-1].worth(price)
                rank //= 2
        best = max(trials, key=lambda trial: trial.worth(price), default=None)
        if best is None or best.factors is None or best.error > PROMISING * rival.error:
            return rival
        left = best.factors[0]
        sides, _ = _free(problem, freed[len(left.values)][0], MORE_TURNS)
        settled = _settled(problem, sides, None, left.bits, self.iterations)
        return settled if settled.error < rival.error else rival

    def decode(self, arrays: Mapping[str, Array]) -> Matrix:
        """The dense (out, in) weight in float32."""
        dense = affine.decode(arrays, self.bits)
        if (beside := low_rank.compensator(arrays, *dense.shape)) is not None:
            low_rank.add(dense, beside)
        return dense

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The grid, and the low-rank product in two thin ones."""
        grid = affine.grid(arrays, self.bits)
        return Layer(grid=grid, low_rank=low_rank.compensator(arrays, len(grid.codes), grid.in_features))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """A matrix in groups."""

    dense: Matrix  # (out, padded)
    weights: Matrix | None  # (padded,); None: all alike
    objective: grid_fitting.Squared
    bits: int
    group: int
    kind: Kind

    @property
    def grid_bits(self) -> int:
        return self.dense.size * self.bits + self.dense.size // self.group * 32

    def grouped(self, dense: Matrix) -> Matrix:
        return dense.reshape(len(dense), -1, self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solution:
    """Grids (once they are fitted) and perhaps a compensator."""

    problem: _Problem
    grids: Grids | None = None
    factors: Factors | None = None

    @property
    def error(self) -> float:
        return math.inf if self.grids is None else float(self.grids.losses.sum())

    @property
    def stored_bits(self) -> int:
        return self.problem.grid_bits + sum(side.stored_bits for side in self.factors or ())

    def worth(self, price: float) -> float:
        """What its error is below 1, less the price of its stored bits per weight, in dB."""
        return -10 * math.log10(self.error or 1e-300) - price * self.stored_bits / self.problem.dense.size

    def arrays(self, exponent: int, in_features: int) -> Arrays:
        """What is stored of the matrix × 2^exponent."""
        assert self.grids is not None
        problem, compensator, rest = self.problem, {}, self.problem.dense
        if self.factors is not None:
            compensator = low_rank.store(self.factors, exponent, problem.kind)
            rest = rest - low_rank.product(low_rank.values(self.factors))
        codes = grid_fitting.codes_of(problem.grouped(rest), self.grids, problem.bits)
        stored = grid_fitting.stored(self.grids, problem.kind, exponent)
        return affine.store(codes, *stored, problem.bits, in_features) | compensator


def _importance(statistics: Statistics | None) -> Matrix | None:
    """(in,) what every column's squared error counts: the mean square of its input, as a share of the mean."""
    if statistics is None:
        return None
    squares = np.diag(statistics.hessian)
    return squares / (squares.mean() or 1) + np.float32(DAMPING)


def _problem(dense: Matrix, exponent: int, importance: Matrix | None, bits: int, group: int, padded: int) -> _Problem:
    padding = padded - dense.shape[1]
    if padding:  # repeats the last column and counts nothing
        importance = np.ones(dense.shape[1], np.float32) if importance is None else importance
        importance = np.pad(importance, (0, padding))
        dense = affine.pad(dense, padded)
    kind = grid_fitting.stored_type(grid_fitting.steps(dense.reshape(len(dense), -1, group), bits), exponent)
    objective = grid_fitting.Squared(weights=None if importance is None else importance.reshape(-1, group))
    return _Problem(dense=dense, weights=importance, objective=objective, bits=bits, group=group, kind=kind)


def _price(plain: list[_Solution]) -> float:
    """What a bit per weight earns in dB if spent on smaller groups; 6.02, the most any can, where there are none."""
    large, small = plain[0], plain[-1]
    rates = [each.stored_bits / each.problem.dense.size for each in (large, small)]
    if rates[0] == rates[1] or not (large.error and small.error):
        return 20 * math.log10(2)
    return 10 * math.log10(large.error / small.error) / (rates[1] - rates[0])


def _free(problem: _Problem, sides: Sides, turns: int) -> tuple[Sides, Grids]:
    """Grids and exact sides by turns, in steps that are too small for codes: without them, up to 0.2 dB are lost."""
    grids, rest = _regridded(problem, sides, None, ROUGH)
    for _ in range(turns - 1):
        sides = low_rank.closer(sides[1], rest, problem.weights)
        grids, rest = _regridded(problem, sides, grids, ROUGH)
    return low_rank.closer(sides[1], rest, problem.weights), grids


def _settled(problem: _Problem, sides: Sides, grids: Grids | None, bits: int, turns: int) -> _Solution:
    """Grids and quantized factors by turns. First codes ignore weights: sides that they let clip would widen grids."""
    left, right = (low_rank.quantized(side, bits, problem.kind) for side in sides)
    factors = left, right
    best = _Solution(problem=problem, factors=factors)
    for _ in range(turns):
        grids, rest = _regridded(problem, low_rank.values(factors), grids, STARTS)
        found = _Solution(problem=problem, grids=grids, factors=factors)
        enough = found.error > (1 - LEAST_GAIN) * best.error
        best = found if found.error < best.error else best
        if enough:
            break
        factors = low_rank.refitted(factors, rest, problem.weights, problem.kind)
    return best


def _regridded(
    problem: _Problem, sides: Sides | None, before: Grids | None, starts: grid_fitting.Starts
) -> tuple[Grids, Matrix]:
    """Grids for what a compensator leaves, and the (out, padded) matrix that these grids leave. O(out × in)."""
    rest = problem.dense.copy()

    def solve(rows: slice) -> Grids:
        block = rest[rows] if sides is None else rest[rows] - low_rank.product(sides, rows)
        grouped = problem.grouped(block)
        if before is None or (before.scales[rows] <= grid_fitting.FLAT).any():
            grids = grid_fitting.fit(grouped, problem.bits, problem.kind, problem.objective, starts)
        else:
            start = before.scales[rows], before.biases[rows]
            grids = grid_fitting.descend(grouped, start, problem.bits, problem.kind, problem.objective, 1)
        codes = grid_fitting.nearest(grouped, grids.scales, grids.biases, problem.bits)[0]
        codes *= grids.scales[:, :, None]
        codes += grids.biases[:, :, None]
        rest[rows] -= codes.reshape(block.shape)
        return grids

    return grid_fitting.blockwise(problem.grouped(problem.dense), solve), rest
