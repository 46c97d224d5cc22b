"""What all kernels for a CPU have in common: tiles of rows, a few tokens at a time, and what stands beside a grid.

A job is done for up to four tokens together, because what a weight costs is to fetch and to decode it. For them the
inputs are made ready first (`before`), by every thread for itself; then each tile gives its rows' products.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_quantbench.engines.torch.kernels.cpu.machine_code import TILES, Instructions
from pytest_quantbench.engines.torch.kernels.cpu.writing import Code, Value, Variable

AHEAD = 4096  # bytes of thin matrices that are fetched before they are needed
ABREAST = 4  # rows of a thin matrix that are multiplied at once
TOGETHER = 4  # tokens that most grids do at once
CALL = ("x", "x_stride", "y", "y_stride", "tokens", TILES, "block", "rows", "inputs", "padded")  # strides in numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Which parts of a layer there are beside the grid, as far as a kernel does them."""

    copied: bool = False  # the inputs have to be padded, scaled, or partly left out
    scaled_inputs: bool = False
    scale: bool = False
    thin: bool = False  # a product of two thin matrices, of which the right one may pick inputs: low rank and columns
    sparse: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        """What a job holds of them."""
        thin = ("left", "right", "rank", "places", "picked")
        parts = {
            ("input_scales",): self.scaled_inputs,
            ("scale",): self.scale,
            thin: self.thin,
            ("sparse_starts", "sparse_rows", "sparse_columns", "sparse_values"): self.sparse,
        }
        return tuple(slot for slots, there in parts.items() if there for slot in slots)


class Grid(Protocol):
    """How the products of a grid are written. An instance writes one function."""

    rows: int  # of a tile
    together: int  # tokens: those that it does at once, where there are so many

    @property
    def slots(self) -> tuple[str, ...]:
        """What a job holds of it."""

    def reserve(self, code: Code) -> None:
        """Ask for scratch memory."""

    def before(self, code: Code, inputs: Sequence[Value]) -> None:
        """What is done once for the addresses of some tokens' inputs, of which there are a multiple of 16."""

    def tile(self, code: Code, tile: Value, inputs: Sequence[Value]) -> list[list[Variable]]:
        """The products of a tile's rows, for every token: vectors that are one after the other."""


def written(grid: Grid, beside: Beside, cpu: Instructions) -> Code:
    """The whole kernel."""
    code = Code((*CALL, *beside.slots, *grid.slots))
    writer = _Writer(code, grid, beside, cpu)
    if grid.together == 1:
        writer.all_tokens(1, code.begin, code.end)
    else:
        several = code.number(grid.together).below(code.slot("tokens"))
        step = several.either(code.slot("block"), code.end)
        for begin in code.loop(code.begin, code.end, step):
            end = (begin + step).below(code.end).either(begin + step, code.end)
            writer.all_tokens(grid.together, begin, end)
    code.builder.ret_void()
    return code


class _Writer:
    def __init__(self, code: Code, grid: Grid, beside: Beside, cpu: Instructions) -> None:
        self.code, self.grid, self.beside, self.lanes = code, grid, beside, cpu.lanes
        self.rows = grid.rows
        self.padded = code.slot("padded")
        self.last = code.scratch(code.number(self.rows), "f32")
        if beside.copied:
            self.copies = code.scratch(self.padded * grid.together, "f32")
        if beside.thin:
            self.thin = code.slot("rank") + code.slot("picked")
            self.factors = code.scratch(self.thin * grid.together, "f32")
        grid.reserve(code)

    def all_tokens(self, together: int, begin: Value, end: Value) -> None:
        """The products of all tokens with some tiles, which stay in the cache meanwhile."""
        code, tokens = self.code, self.code.slot("tokens")
        most = tokens // together * together
        for first in code.loop(code.number(0), most, together):
            self.some(first, together, begin, end)
        for first in code.loop(most, tokens) if together > 1 else ():
            self.some(first, 1, begin, end)

    def some(self, first: Value, tokens: int, begin: Value, end: Value) -> None:
        """The products of so many tokens, beginning with that one."""
        code = self.code
        x, y = code.slot("x", "pointer"), code.slot("y", "pointer")
        inputs = [x.at((first + token) * code.slot("x_stride"), "f32") for token in range(tokens)]
        outputs = [y.at((first + token) * code.slot("y_stride"), "f32") for token in range(tokens)]
        if self.beside.copied:
            inputs = [self._copied(token, each) for token, each in enumerate(inputs)]
        if self.beside.thin:
            self._factors(inputs)
        self.grid.before(code, inputs)
        for tile in code.loop(begin, end):
            products = self.grid.tile(code, tile, inputs)
            self._finish(tile, products)
            for token in range(tokens):
                self._store(tile, products[token], outputs[token])
            if self.beside.sparse:
                self._sparse(tile, inputs, outputs)

    def _copied(self, token: int, source: Value) -> Value:
        """A token's inputs, scaled, with zeros behind them."""
        code, inputs = self.code, self.code.slot("inputs")
        copy = self.copies.at(self.padded * token, "f32")
        vectors = inputs // 16 * 16
        for start, stop, step, lanes in ((code.number(0), vectors, 16, 16), (vectors, inputs, 1, 0)):
            for place in code.loop(start, stop, step):
                value = source.load(place, "f32", lanes)
                if self.beside.scaled_inputs:
                    value = value * code.slot("input_scales", "pointer").load(place, "f32", lanes)
                copy.store(place, value, "f32")
        for place in code.loop(inputs, self.padded):
            copy.store(place, code.number(0.0, "f32"), "f32")
        return copy

    def _factors(self, inputs: Sequence[Value]) -> None:
        """What each of the thin product's components is of each token: of the right matrix's rows, and of the inputs
        that are picked, which the grid then does not see.
        """
        code, right, places = self.code, self.code.slot("right", "pointer"), self.code.slot("places", "pointer")
        rank = code.slot("rank")
        for token, source in enumerate(inputs):
            factors = self.factors.at(self.thin * token, "f32")
            most = rank // ABREAST * ABREAST
            for start, stop, abreast in ((code.number(0), most, ABREAST), (most, rank, 1)):
                for component in code.loop(start, stop, abreast):
                    rows = [right.at((component + each) * self.padded, "f32") for each in range(abreast)]
                    for each, product in enumerate(self._products(rows, source)):
                        factors.store(component + each, product, "f32")
            for index in code.loop(code.number(0), code.slot("picked")):
                place = places.load(index, "i64")
                factors.store(rank + index, source.load(place, "f32"), "f32")
                source.store(place, code.number(0.0, "f32"), "f32")

    def _products(self, rows: Sequence[Value], source: Value) -> list[Value]:
        """Those of a few rows with the inputs, side by side."""
        totals = [self.code.variable(self.code.number(0.0, "f32", 16)) for _ in rows]
        for place in self.code.loop(self.code.number(0), self.padded, 16):
            x = source.load(place, "f32", 16)
            for row, total in zip(rows, totals, strict=True):
                row.prefetch(place * 4 + AHEAD)
                total.set(row.load(place, "f32", 16).times_plus(x, total.get()))
        return [total.get().total() for total in totals]

    def _finish(self, tile: Value, products: Sequence[Sequence[Variable]]) -> None:
        """Multiply by the scale, and add the thin product."""
        code = self.code
        if self.beside.scale:
            scale = code.slot("scale", "pointer").load(0, "f32").spread(self.lanes)
            for product in (each for rows in products for each in rows):
                product.set(product.get() * scale)
        if self.beside.thin:
            left = code.slot("left", "pointer").at(tile * self.thin * self.rows, "f32")
            for component in code.loop(code.number(0), self.thin):
                for part in range(self.rows // self.lanes):
                    left.prefetch((component * self.rows + part * self.lanes) * 4 + AHEAD)
                    column = left.load(component * self.rows + part * self.lanes, "f32", self.lanes)
                    for token, rows in enumerate(products):
                        factor = self.factors.load(self.thin * token + component, "f32").spread(self.lanes)
                        rows[part].set(column.times_plus(factor, rows[part].get()))

    def _store(self, tile: Value, rows: Sequence[Variable], output: Value) -> None:
        """Write a tile's rows, of which the last tile may have less."""
        code, first = self.code, tile * self.rows
        left = code.slot("rows") - first
        whole = code.number(self.rows - 1).below(left)
        with code.builder.if_else(whole.held) as (all_there, some_there):
            with all_there:
                for part, each in enumerate(rows):
                    output.store(first + part * self.lanes, each.get(), "f32")
            with some_there:
                for part, each in enumerate(rows):
                    self.last.store(part * self.lanes, each.get(), "f32")
                for row in code.loop(code.number(0), left):
                    output.store(first + row, self.last.load(row, "f32"), "f32")

    def _sparse(self, tile: Value, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        """Add the products of the single weights in a tile's rows."""
        code = self.code
        starts, rows, columns, values = (code.slot(f"sparse_{name}", "pointer") for name in SPARSE)
        for entry in code.loop(starts.load(tile, "i64"), starts.load(tile + 1, "i64")):
            row, column, value = rows.load(entry, "i64"), columns.load(entry, "i64"), values.load(entry, "f32")
            for source, output in zip(inputs, outputs, strict=True):
                output.store(row, value.times_plus(source.load(column, "f32"), output.load(row, "f32")), "f32")


SPARSE = ("starts", "rows", "columns", "values")
