"""What a layer has beside its grid, as the jobs of kernels hold it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pytest_quantbench.engines.torch.arrays import as_torch
from pytest_quantbench.engines.torch.kernels.cpu.lanes import ROWS, tiled
from pytest_quantbench.engines.torch.kernels.cpu.tiled_job import Beside
from pytest_quantbench.quantizers import Array, Layer
from pytest_quantbench.quantizers.layer import Columns, LowRank, Sparse

COVERED = frozenset({"grid", "scale", "sparse", "low_rank", "columns"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Beside a grid: which there are, their arrays and numbers by slot, and what of the layer is covered by them."""

    beside: Beside
    arrays: Mapping[str, torch.Tensor]
    numbers: Mapping[str, int]
    covers: frozenset[str]


def possible(layer: Layer) -> bool:
    """Whether kernels can do what is beside the grid: single weights are not at inputs that have dense ones."""
    return layer.sparse is None or layer.columns is None


def parts_of(layer: Layer, rows: int, inputs: int, padded: int, tile: int = ROWS) -> Parts:
    """Of an (out, in) matrix in tiles of so many rows, whose grid has `padded` inputs. A rule takes the scales out."""
    scaled = layer.input_scales is not None and layer.input_rule is None
    thin = layer.low_rank is not None or layer.columns is not None
    beside = Beside(
        copied=scaled or padded != inputs or layer.columns is not None,
        scaled_inputs=scaled,
        scale=layer.scale is not None,
        thin=thin,
        sparse=layer.sparse is not None,
    )
    arrays: dict[str, Array] = {}
    if scaled and layer.input_scales is not None:
        arrays["input_scales"] = _floats(layer.input_scales)
    if layer.scale is not None:
        arrays["scale"] = _floats(layer.scale)
    numbers = {"rows": rows, "inputs": inputs, "padded": padded}
    if thin:
        arrays |= _thin(layer.low_rank, layer.columns, rows, padded, tile)
        numbers |= {"rank": len(arrays["right"]), "picked": len(arrays["places"])}
    if layer.sparse is not None:
        arrays |= _sparse(layer.sparse, rows, tile)
    tensors = {name: as_torch(array) for name, array in arrays.items()}
    covers = COVERED | ({"input_scales"} if scaled else set())
    return Parts(beside=beside, arrays=tensors, numbers=numbers, covers=frozenset(covers))


def _floats(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32).reshape(-1)


def _thin(low_rank: LowRank | None, columns: Columns | None, rows: int, padded: int, tile: int) -> dict[str, Array]:
    """`left` (tiles, components, rows), `right` (rank, padded), and the `places` of inputs that are components, too."""
    left, right = np.zeros((0, rows), np.float32), np.zeros((0, padded), np.float32)
    places = np.zeros(0, np.int64)
    if low_rank is not None:
        left = low_rank.left.astype(np.float32)
        right = np.pad(low_rank.right.astype(np.float32), ((0, 0), (0, padded - low_rank.right.shape[1])))
    if columns is not None:
        left = np.concatenate([left, columns.values.astype(np.float32).T])
        places = columns.places.astype(np.int64)
    return {"left": tiled(left.T, tile), "right": np.ascontiguousarray(right), "places": places}


def _sparse(sparse: Sparse, rows: int, tile: int) -> dict[str, Array]:
    """Single weights by tile: `sparse_starts` (tiles + 1,), and the rows, columns and values of each."""
    places, values = sparse.by_row()
    at = places.astype(np.int64)
    tiles = -(-rows // tile)
    return {
        "sparse_starts": np.searchsorted(at[:, 0], np.arange(tiles + 1) * tile).astype(np.int64),
        "sparse_rows": np.ascontiguousarray(at[:, 0]),
        "sparse_columns": np.ascontiguousarray(at[:, 1]),
        "sparse_values": values.astype(np.float32),
    }
