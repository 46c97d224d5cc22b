"""Grids of codes in groups with a scale each: every lane of a vector decodes codes of its own row.

A tile of 32 rows lies in memory as the first 32-bit words of all its rows, then their second words, and so on. A word's
codes are shifted down one after the other, become numbers, and are multiplied by the one input that they all belong to;
a group's total is multiplied by its scale at the end. Where a group has a bias, it is multiplied by the sum of the
group's inputs, which is made once for all rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_quantbench.engines.torch.kernels.cpu.machine_code import Instructions
from pytest_quantbench.engines.torch.kernels.cpu.numbers import Numbers, scale_of
from pytest_quantbench.engines.torch.kernels.cpu.tiled_job import TOGETHER
from pytest_quantbench.engines.torch.kernels.cpu.writing import Code, Value, Variable
from pytest_quantbench.quantizers import Array

ROWS = 32  # of a tile
AHEAD = 16_384  # bytes that are fetched before they are needed: pages, at whose ends the machine's own fetching stops
RUN = 32  # codes of a row that are written out one after the other


def unit(bits: int) -> int:
    """How many codes of so many bits fill whole 32-bit words."""
    return 32 // math.gcd(32, bits)


def tiled(matrix: Array, rows: int = ROWS) -> Array:
    """(out, columns) → (tiles, columns, rows), with zeros for rows that are missing in the last tile."""
    outs, columns = matrix.shape
    padded = np.pad(matrix, ((0, -outs % rows), (0, 0)))
    return np.ascontiguousarray(padded.reshape(-1, rows, columns).swapaxes(1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """The codes of a grid, as its products are written."""

    numbers: Numbers
    bits: int
    group: int
    scales: str  # their type, as `numbers.SCALES` has it
    biased: bool

    def grid(self, cpu: Instructions) -> "LanesGrid":
        """What writes them."""
        return LanesGrid(self, cpu)


class LanesGrid:
    """Writes the products of one kind of codes."""

    rows, together = ROWS, TOGETHER

    def __init__(self, kind: Lanes, cpu: Instructions) -> None:
        self.kind, self.cpu = kind, cpu
        self.parts = ROWS // cpu.lanes

    @property
    def slots(self) -> tuple[str, ...]:
        """The arrays of a tile's rows, and how many groups they have."""
        return ("codes", "scales", "groups", *(("biases",) if self.kind.biased else ()))

    def reserve(self, code: Code) -> None:
        """Sums of inputs, for biases."""
        if self.kind.biased:
            self.sums = code.scratch(code.slot("groups") * TOGETHER, "f32")

    def before(self, code: Code, inputs: Sequence[Value]) -> None:
        """Sum the inputs of every group."""
        groups, size = code.slot("groups"), self.kind.group
        for token, source in enumerate(inputs if self.kind.biased else ()):
            for group in code.loop(code.number(0), groups):
                total = source.load(group * size, "f32", 16)
                for place in range(16, size, 16):
                    total = total + source.load(group * size + place, "f32", 16)
                self.sums.store(groups * token + group, total.total(), "f32")

    def tile(self, code: Code, tile: Value, inputs: Sequence[Value]) -> list[list[Variable]]:
        """Group after group."""
        zero = code.number(0.0, "f32", self.cpu.lanes)
        products = [[code.variable(zero) for _ in range(self.parts)] for _ in inputs]
        groups, words = code.slot("groups"), self.kind.group * self.kind.bits // 32
        codes = code.slot("codes", "pointer").at(tile * groups * (words * ROWS), "i32")
        for group in code.loop(code.number(0), groups):
            totals = self._totals(code, codes.at(group * (words * ROWS), "i32"), group, inputs)
            for part in range(self.parts):
                place = (tile * groups + group) * ROWS + part * self.cpu.lanes
                self._add(code, place, group, [total[part] for total in totals], [rows[part] for rows in products])
        return products

    def _add(
        self, code: Code, place: Value, group: Value, totals: Sequence[Value], products: Sequence[Variable]
    ) -> None:
        """Scale the totals of a group's codes, and add them to the products."""
        lanes, groups = self.cpu.lanes, code.slot("groups")
        scale = scale_of(code.slot("scales", "pointer"), place, self.kind.scales, lanes)
        if self.kind.biased:
            bias = scale_of(code.slot("biases", "pointer"), place, self.kind.scales, lanes)
        for token, (total, product) in enumerate(zip(totals, products, strict=True)):
            product.set(scale.times_plus(total, product.get()))
            if self.kind.biased:
                inputs = self.sums.load(groups * token + group, "f32").spread(lanes)
                product.set(bias.times_plus(inputs, product.get()))

    def _totals(self, code: Code, codes: Value, group: Value, inputs: Sequence[Value]) -> list[list[Value]]:
        """Σ code · input of one group, for every token and part of the rows."""
        size = self.kind.group
        run = RUN if size % RUN == 0 else math.gcd(size, RUN)
        run = run if run % unit(self.kind.bits) == 0 else size
        zero = code.number(0.0, "f32", self.cpu.lanes)
        totals = [[_Sum(zero, 1 if len(inputs) > 1 else 2) for _ in range(self.parts)] for _ in inputs]
        if run == size:
            self._run(code, codes, [source.at(group * size, "f32") for source in inputs], run, totals)
            return [[each.value() for each in rows] for rows in totals]
        sums = [[code.variable(zero) for _ in range(self.parts)] for _ in inputs]
        for place in code.loop(code.number(0), code.number(size), run):
            here = [source.at(group * size + place, "f32") for source in inputs]
            words = place * self.kind.bits // 32 * ROWS
            self._run(code, codes.at(words, "i32"), here, run, totals)
            for rows, stored in zip(totals, sums, strict=True):
                for each, total in zip(rows, stored, strict=True):
                    total.set(total.get() + each.value())
        return [[each.get() for each in rows] for rows in sums]

    def _run(self, code: Code, codes: Value, inputs: Sequence[Value], count: int, totals: "list[list[_Sum]]") -> None:
        """Decode `count` codes of each row and multiply them by the inputs, without a loop."""
        bits, lanes = self.kind.bits, self.cpu.lanes
        size = unit(bits)
        for start in range(0, count, size):
            for line in range(size * bits // 16):  # of 64 bytes
                codes.prefetch(start * bits // 8 * ROWS + line * 64 + AHEAD)
            words = [
                [
                    codes.load((start * bits // 32 + word) * ROWS + part * lanes, "i32", lanes)
                    for word in range(size * bits // 32)
                ]
                for part in range(self.parts)
            ]
            for place in range(size):
                x = [source.load(start + place, "f32").spread(lanes) for source in inputs]
                for part in range(self.parts):
                    weights = self.kind.numbers.decoded(code, words[part], place, bits, self.cpu)
                    for token, value in enumerate(x):
                        totals[token][part].add(weights, value)


class _Sum:
    """A sum of products, in a few chains that do not wait for each other."""

    def __init__(self, zero: Value, chains: int) -> None:
        self._parts, self._next = [zero] * chains, 0

    def add(self, left: Value, right: Value) -> None:
        """Add a product."""
        self._parts[self._next] = left.times_plus(right, self._parts[self._next])
        self._next = (self._next + 1) % len(self._parts)

    def value(self) -> Value:
        """All together."""
        total = self._parts[0]
        for part in self._parts[1:]:
            total = total + part
        return total
