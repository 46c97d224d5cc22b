"""Tables of embeddings and stacks of experts as they are stored: what is asked for is decoded, and nothing else."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_quantbench.engines.torch.stored_rows import StoredRows
from pytest_quantbench.quantizers import Layer
from pytest_quantbench.quantizers.layer import Affine, Grid, Microscaled

SPREAD = 8 + 4 + 4  # bytes of a weight: its code as an integer, its float32 value before and after the bias or scale


class Table(nn.Module):
    """The rows of a matrix of plain numbers, in whatever type it is stored."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)  # (rows, width)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(n,) → (n, width)."""
        return self.weight[numbers]


class Embedding(nn.Module):
    """What takes the place of a model's embeddings; rows come from a `Table` or from `StoredRows`.

    A model may do more with a row than to look it up, such as to scale it. Its own module does that here too, with a
    table that has just the rows that were asked for.
    """

    def __init__(self, original: nn.Embedding, rows: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.rows, self._dtype = rows, dtype
        self._count, self._width = original.num_embeddings, original.embedding_dim
        self.original = None if type(original) is nn.Embedding else original
        if self.original is not None:
            self.original.padding_idx = None  # a row like any other, once it has been looked up
            self.original.weight = nn.Parameter(torch.empty(0, self._width), requires_grad=False)

    @property
    def weight(self) -> torch.Tensor:
        """(0, width), for code that asks for the type and the device of the weights, as Llama 4's does."""
        return torch.empty(0, self._width, dtype=self._dtype, device=next(self.rows.buffers()).device)

    @property
    def bytes_per_token(self) -> int:
        """One row of everything that has rows."""
        return sum(held.nbytes for held in self.rows.buffers()) // self._count

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(…) → (…, width)."""
        rows: torch.Tensor = self.rows(tokens.flatten()).to(self._dtype)
        if self.original is None:
            return rows.view(*tokens.shape, self._width)
        numbers = torch.arange(tokens.numel(), device=tokens.device).view(tokens.shape)
        looked_up: torch.Tensor = torch.func.functional_call(self.original, {"weight": rows}, (numbers,))
        return looked_up


def is_looked_up_by_number(module: nn.Embedding) -> bool:
    """Whether a module of embeddings is called with the numbers of rows alone; OPT's counts positions by itself."""
    return len(inspect.signature(type(module).forward).parameters) == len(("self", "input"))


class Stack(nn.Module):
    """The matrices of all experts, of which those that are asked for are decoded: `stack[3]` is (out, in) in `dtype`,
    `stack[numbers]` (n, out, in).
    """

    def __init__(self, grid: Grid, experts: int, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.rows, self._dtype, self.experts = StoredRows(Layer(grid=grid), device), dtype, experts
        self._out = self.rows.grid.out_features // experts
        self.shape = (experts, self._out, grid.in_features)

    @property
    def bytes_per_expert(self) -> int:
        """What is read of one: as it is stored, and then what decoding it leaves in memory, which is read again."""
        stored = sum(held.nbytes for held in self.rows.buffers()) // self.experts
        converted = 0 if self._dtype == torch.float32 else self._dtype.itemsize
        return stored + math.prod(self.shape[1:]) * (SPREAD + converted)

    def __getitem__(self, chosen: torch.Tensor | int) -> torch.Tensor:
        first = torch.as_tensor(chosen, device=next(self.buffers()).device) * self._out
        numbers = first[..., None] + torch.arange(self._out, device=first.device)  # (…, out)
        decoded: torch.Tensor = self.rows(numbers.flatten()).to(self._dtype)
        return decoded.view(*numbers.shape, -1)


def joined(layers: Sequence[Layer | None]) -> Grid | None:
    """One grid with the rows of all experts, one after another; None where they are not all grids of one kind alone."""
    grids = [layer.grid for layer in layers if layer is not None and layer.is_grid_alone]
    kinds = {(type(grid), grid.bits, grid.in_features) for grid in grids if grid is not None}
    if len(grids) < len(layers) or len(kinds) != 1:
        return None
    first = grids[0]
    if not isinstance(first, Affine | Microscaled):
        return None
    names = ("codes", "scales", "biases") if isinstance(first, Affine) else ("codes", "scales")
    if len({tuple(getattr(grid, name).dtype for name in names) for grid in grids}) != 1:
        return None
    whole: Any = {name: np.concatenate([getattr(grid, name) for grid in grids]) for name in names}
    return replace(first, **whole)
