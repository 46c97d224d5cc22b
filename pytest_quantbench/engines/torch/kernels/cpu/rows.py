"""Matrices of 16-bit floating-point numbers, row by row as they lie in the checkpoint: two bytes are read per weight.

Nothing is copied, so that an embedding can share the memory. Four rows are read at a time; their numbers become float32
in registers, where the inputs are, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch.nn import functional

from pytest_quantbench.engines.torch.arrays import as_torch
from pytest_quantbench.engines.torch.kernels.cpu.machine_code import Instructions, instructions
from pytest_quantbench.engines.torch.kernels.cpu.product import CpuProduct, Plan
from pytest_quantbench.engines.torch.kernels.cpu.tiled_job import TOGETHER, Beside
from pytest_quantbench.engines.torch.kernels.cpu.writing import Code, Value, Variable
from pytest_quantbench.engines.torch.kernels.dense import decoded
from pytest_quantbench.engines.torch.kernels.protocol import ALL, Decode, Product
from pytest_quantbench.quantizers import Layer

Type: TypeAlias = Literal["bfloat16", "float16"]
TYPES: dict[torch.dtype, Type] = {torch.bfloat16: "bfloat16", torch.float16: "float16"}
ROWS = 32  # of a tile
ABREAST = 4  # rows
AHEAD = 16_384  # bytes that are fetched before they are needed
STEP = 32  # inputs, of which rows have a multiple


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A matrix of such numbers."""

    type: Type

    def grid(self, cpu: Instructions) -> "RowsGrid":
        """What writes its products."""
        return RowsGrid(self, cpu)


class RowsGrid:
    """Writes products with the rows of a matrix."""

    rows, together, slots = ROWS, TOGETHER, ("weight",)

    def __init__(self, kind: Rows, cpu: Instructions) -> None:
        self.kind, self.lanes = kind, cpu.lanes

    def reserve(self, code: Code) -> None:
        """A tile's sums."""
        self.sums = code.scratch(code.number(ROWS), "f32")

    def before(self, code: Code, inputs: Sequence[Value]) -> None:
        """Nothing."""

    def tile(self, code: Code, tile: Value, inputs: Sequence[Value]) -> list[list[Variable]]:
        """A few rows after a few others. Behind the last row of the matrix, that is read again."""
        zero = code.number(0.0, "f32", self.lanes)
        products = [[code.variable(zero) for _ in range(ROWS // self.lanes)] for _ in inputs]
        last = code.slot("rows") - 1
        for first in range(0, ROWS, ABREAST):
            rows = [tile * ROWS + row for row in range(first, first + ABREAST)]
            there = [row.below(last).either(row, last) for row in rows]
            sums = self._sums(code, there, inputs)
            part, lane = divmod(first, self.lanes)
            for token, product in enumerate(products):
                product[part].set(product[part].get().with_lanes(lane, [each.total() for each in sums[token]]))
        return products

    def _sums(self, code: Code, rows: Sequence[Value], inputs: Sequence[Value]) -> list[list[Value]]:
        """The products of some rows in the lanes of a vector each, not yet added up, for every token."""
        lanes, padded = self.lanes, code.slot("padded")
        weights = [code.slot("weight", "pointer").at(row * padded, "i16") for row in rows]
        totals = [[code.variable(code.number(0.0, "f32", lanes)) for _ in rows] for _ in inputs]
        for place in code.loop(code.number(0), padded, STEP):
            for each in weights:
                each.prefetch(place * 2 + AHEAD)
            for offset in range(0, STEP, lanes):
                x = [source.load(place + offset, "f32", lanes) for source in inputs]
                for row, each in enumerate(weights):
                    numbers = self._numbers(each.load(place + offset, "i16", lanes))
                    for token, value in enumerate(x):
                        total = totals[token][row]
                        total.set(numbers.times_plus(value, total.get()))
        return [[total.get() for total in each] for each in totals]

    def _numbers(self, stored: Value) -> Value:
        if self.kind.type == "float16":
            return stored.to("f16", "bitcast").to("f32", "fpext")
        return (stored.to("i32", "zext") << 16).to("f32", "bitcast")


def fits(layer: Layer, device: torch.device, dtype: torch.dtype) -> bool:
    """A matrix to which nothing was done; whether its numbers have 16 bits shows when it is read."""
    return all(getattr(layer, part) is None for part in ALL)


def made(layer: Layer, decode: Decode, device: torch.device, dtype: torch.dtype) -> Product:
    """The module for this CPU; PyTorch's own where numbers do not have 16 bits."""
    weight = as_torch(decode())
    if weight.dtype not in TYPES:
        return decoded(layer, lambda: weight, device, dtype)
    return product(weight, instructions())


def product(weight: torch.Tensor, cpu: Instructions) -> CpuProduct:
    """The module for a CPU that has such instructions."""
    rows, inputs = weight.shape
    missing = -inputs % STEP
    held = functional.pad(weight, (0, missing)) if missing else weight.contiguous()
    plan = Plan(kind=Rows(type=TYPES[weight.dtype]), beside=Beside(copied=bool(missing)), cpu=cpu)
    numbers = {"rows": rows, "inputs": inputs, "padded": inputs + missing}
    return CpuProduct(plan, {"weight": held}, numbers, f"rows, {TYPES[weight.dtype]}", ALL - {"input_rule"})
