"""Matrices as they are stored, decoded row by row where they are: a table of embeddings, the chosen experts' matrices.

Only the rows that are asked for are read and decoded, in float32, by PyTorch's own operations on whatever device holds
them. `quantizers/layer_matrix.py` says in numpy what the values have to be.
"""

import math
from collections.abc import Collection
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_quantbench.engines.torch.arrays import as_torch, to_torch
from pytest_quantbench.quantizers import Array, Layer
from pytest_quantbench.quantizers.layer import Affine, Codebooks, Grid, Microscaled
from pytest_quantbench.quantizers.numerics import microscaled_formats

PARTS = ("input_scales", "scale", "columns", "sparse", "low_rank")
ROWS_AT_ONCE = 4096  # of a matrix that is decoded whole: bounds the memory of codes that are spread out


def unpacked(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """(rows, bytes) → (rows, bytes × 8 / bits) codes as integers, first code in the lowest bits (see bit_packing)."""
    count = 8 // math.gcd(bits, 8)  # codes that fill whole bytes
    size = bits * count // 8
    wide = packed.view(len(packed), -1, size).long()
    words = wide[:, :, 0]
    for byte in range(1, size):
        words = words | wide[:, :, byte] << 8 * byte
    shifts = torch.arange(0, bits * count, bits, device=packed.device)
    codes: torch.Tensor = (words[:, :, None] >> shifts) & (2**bits - 1)
    return codes.view(len(packed), -1)


class Rows(nn.Module):
    """The rows of a grid: `forward` takes their numbers (n,) and gives (n, padded in) float32."""

    out_features: int

    def hold(self, name: str, array: Array | torch.Tensor, device: torch.device) -> None:
        """Keep an array as a buffer."""
        self.register_buffer(name, as_torch(array).to(device))


class AffineRows(Rows):
    """code × scale + bias."""

    codes: torch.Tensor
    scales: torch.Tensor
    biases: torch.Tensor

    def __init__(self, grid: Affine, device: torch.device) -> None:
        super().__init__()
        self._bits, self.out_features = grid.bits, len(grid.codes)
        self.hold("codes", grid.codes.view(np.uint8), device)
        self.hold("scales", grid.scales, device)
        self.hold("biases", grid.biases, device)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(n,) → (n, padded in)."""
        scales, biases = self.scales[numbers].float(), self.biases[numbers].float()
        codes = unpacked(self.codes[numbers], self._bits).view(*scales.shape, -1)
        return (codes * scales[:, :, None] + biases[:, :, None]).flatten(1)


class MicroscaledRows(Rows):
    """A table's element × its group's scale."""

    codes: torch.Tensor
    scales: torch.Tensor
    elements: torch.Tensor
    sizes: torch.Tensor

    def __init__(self, grid: Microscaled, device: torch.device) -> None:
        super().__init__()
        self._bits, self.out_features = grid.bits, len(grid.codes)
        self.hold("codes", grid.codes.view(np.uint8), device)
        self.hold("scales", grid.scales, device)
        every = np.arange(256, dtype=np.uint8)
        elements = microscaled_formats.E2M1 if grid.bits == 4 else microscaled_formats.e4m3_values(every)
        self.hold("elements", elements, device)
        with np.errstate(over="ignore", invalid="ignore"):
            self.hold("sizes", microscaled_formats.scale_values(every, grid.form).astype(np.float32), device)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(n,) → (n, padded in)."""
        sizes = self.sizes[self.scales[numbers].long()]
        elements = self.elements[unpacked(self.codes[numbers], self._bits)]
        return (elements.view(*sizes.shape, -1) * sizes[:, :, None]).flatten(1)


class CodebookRows(Rows):
    """The sum of one word of every codebook, times the row's scale."""

    codes: torch.Tensor
    words: torch.Tensor
    scales: torch.Tensor

    def __init__(self, grid: Codebooks, device: torch.device) -> None:
        super().__init__()
        self._length, self._along, self.out_features = grid.length, grid.along, grid.out_features
        wide = grid.codes if grid.codes.dtype == np.uint8 else grid.codes.view(np.int16)  # PyTorch gathers no uint16
        self.hold("codes", wide, device)
        self.hold("words", grid.words, device)
        self.hold("scales", grid.scales, device)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(n,) → (n, padded in)."""
        across = numbers if self._along == "inputs" else numbers // self._length
        codes = self.codes[:, across].long() & 0xFFFF  # (stages, n, vectors)
        vectors = sum(words[code] for words, code in zip(self.words.float(), codes, strict=True))
        assert isinstance(vectors, torch.Tensor)  # (n, vectors, length)
        if self._along == "inputs":
            dense = vectors.flatten(1)
        else:
            dense = vectors.gather(2, (numbers % self._length)[:, None, None].expand(*vectors.shape[:2], 1))[:, :, 0]
        scales = self.scales.float()
        return dense * (scales if len(scales) == 1 else scales[numbers])[:, None]


@singledispatch
def rows_of(grid: Grid, device: torch.device) -> Rows:
    """What decodes rows of a grid."""
    raise TypeError(f"no grid: {grid!r}")


rows_of.register(Affine)(AffineRows)
rows_of.register(Microscaled)(MicroscaledRows)
rows_of.register(Codebooks)(CodebookRows)


class Parts(nn.Module):
    """What a layer has beside its grid, in tensors; None for what it does not have or what is `covered` elsewhere."""

    input_scales: torch.Tensor | None  # (in,)
    scale: torch.Tensor | None  # (1,)
    column_places: torch.Tensor | None  # (count,)
    column_values: torch.Tensor  # (out, count)
    sparse_rows: torch.Tensor  # (count,)
    sparse_columns: torch.Tensor
    sparse_values: torch.Tensor | None
    left: torch.Tensor  # (out, rank)
    right: torch.Tensor | None  # (rank, in)

    def __init__(self, layer: Layer, covered: Collection[str], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        part: dict[str, Any] = {name: None if name in covered else getattr(layer, name) for name in PARTS}
        columns, sparse, low_rank = part["columns"], part["sparse"], part["low_rank"]
        held: dict[str, Array | None] = {
            "input_scales": part["input_scales"],
            "scale": part["scale"],
            "column_places": columns and columns.places,
            "column_values": columns and columns.values,
            "sparse_rows": sparse and sparse.places[:, 0],
            "sparse_columns": sparse and sparse.places[:, 1],
            "sparse_values": sparse and sparse.values,
            "left": low_rank and low_rank.left.T,
            "right": low_rank and low_rank.right,
        }
        for name, array in held.items():
            tensor = None if array is None else to_torch(array)
            if tensor is not None:
                tensor = tensor.to(device, dtype if tensor.is_floating_point() else torch.int64)
            self.register_buffer(name, tensor)


class StoredRows(Parts):
    """The rows of a described layer's matrix: grid, scale, columns, single weights, low rank and scales of inputs.

    Of a layer with a rotation they are those of the rotated matrix, as long as its padded inputs.
    """

    def __init__(self, layer: Layer, device: torch.device) -> None:
        super().__init__(layer, (), device, torch.float32)
        assert layer.grid is not None
        self.grid = rows_of(layer.grid, device)
        self._width = None if layer.rotation is not None else layer.grid.in_features  # rotated rows are padded ones

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(n,) rows → (n, in) float32."""
        dense: torch.Tensor = self.grid(numbers)[:, : self._width]
        if self.scale is not None:
            dense = dense * self.scale
        if self.column_places is not None:
            dense = dense.index_copy(1, self.column_places, self.column_values[numbers])
        if self.sparse_values is not None:
            here = numbers[:, None] == self.sparse_rows  # (n, count)
            dense = dense.index_add(1, self.sparse_columns, torch.where(here, self.sparse_values, 0))
        if self.right is not None:
            dense = dense + self.left[numbers] @ self.right
        return dense if self.input_scales is None else dense * self.input_scales

    def matrix(self) -> torch.Tensor:
        """All of them, (out, in) float32."""
        numbers = torch.arange(self.grid.out_features, device=next(self.buffers()).device)
        return torch.cat([self(part) for part in torch.split(numbers, ROWS_AT_ONCE)])
