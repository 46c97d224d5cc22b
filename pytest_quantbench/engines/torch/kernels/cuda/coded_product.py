"""Layers whose matrix is a grid of codes, affine or microscaled, by kernels of Triton: one token or many.

Single weights and a low-rank product beside the grid are added by the same kernel where there is one token; the inputs
are projected to the low rank by a small one before.
"""

import numpy as np
import torch
from torch.nn import functional

from pytest_quantbench.engines.torch.arrays import as_torch
from pytest_quantbench.engines.torch.kernels.cuda import FromGrid
from pytest_quantbench.engines.torch.kernels.cuda.codebook_codes import narrowed
from pytest_quantbench.engines.torch.kernels.cuda.coded_operators import coded_matmul, coded_matvec
from pytest_quantbench.engines.torch.kernels.cuda.jitted import matvec
from pytest_quantbench.engines.torch.kernels.cuda.launching import next_power
from pytest_quantbench.engines.torch.kernels.cuda.striped_words import WIDTHS, group_of, striped
from pytest_quantbench.quantizers import Layer
from pytest_quantbench.quantizers.layer import Affine, LowRank, Microscaled, Sparse, padding


class Coded(FromGrid):
    """A grid of codes, and what is added to it."""

    covers = frozenset({"grid", "scale", "sparse", "low_rank"})
    words: torch.Tensor  # (out, words of a unit, 4 × stripes) int32
    scales: torch.Tensor  # (out, groups)
    biases: torch.Tensor | None
    factor: torch.Tensor | None  # (1,)
    starts: torch.Tensor | None  # (out + 1,) of single weights, row after row
    places: torch.Tensor
    values: torch.Tensor
    left: torch.Tensor | None  # (out, rank)
    right: torch.Tensor

    def __init__(self, layer: Layer, device: torch.device, kernel: str) -> None:
        super().__init__()
        grid = layer.grid
        assert isinstance(grid, Affine | Microscaled)
        self.kernel = kernel
        self.columns = grid.in_features + (padding(grid) if layer.rotation is not None else 0)
        self.kind = _kind(grid)
        held: dict[str, torch.Tensor | None] = {
            "words": striped(grid.codes, WIDTHS[grid.bits], device),
            "scales": as_torch(grid.scales),
            "biases": as_torch(grid.biases) if isinstance(grid, Affine) and self.kind[-1] < 0 else None,
            "factor": None if layer.scale is None else as_torch(layer.scale.astype(np.float32)),
            **_of_sparse(layer.sparse, len(grid.codes)),
            **_of_low_rank(layer.low_rank),
        }
        for name, tensor in held.items():
            self.register_buffer(name, None if tensor is None else tensor.to(device).contiguous())
        self.bytes_per_token = sum(tensor.nbytes for tensor in self.buffers())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)."""
        flat = x.reshape(-1, self.columns).contiguous()
        return self.product(flat, x.dtype).reshape(*x.shape[:-1], -1)

    def product(self, x: torch.Tensor, out: torch.dtype) -> torch.Tensor:
        """Contiguous (tokens, in) → (tokens, out) in some type: sums are float32 in any case."""
        sparse = [] if self.starts is None else [self.starts, self.places, self.values]
        low_rank = [] if self.left is None else [self.left, self.right]
        grid = (self.words, self.scales, self.biases, self.factor)
        if len(x) == 1:
            single: torch.Tensor = coded_matvec(x, *grid, sparse, low_rank, self.kind, out)
            return single
        result: torch.Tensor = coded_matmul(x, *grid, sparse, self.kind, torch.float32 if low_rank else out)
        if low_rank:
            left, right = (factor.float() for factor in low_rank)
            result = (result + functional.linear(functional.linear(x.float(), right), left)).to(out)
        return result


def _kind(grid: Affine | Microscaled) -> list[int]:
    """What the operators are told: bits, number, group, how scales are stored, what codes count from."""
    if isinstance(grid, Microscaled):
        number = matvec.E4M3 if grid.bits == 8 else matvec.E2M1
        stored = matvec.E8M0_SCALE if grid.form.powers_of_two else matvec.E4M3_SCALE
        return [grid.bits, number, group_of(grid), stored, 0]
    return [grid.bits, matvec.CODE, group_of(grid), matvec.PLAIN, grid.middle if grid.is_centred else -1]


def _of_sparse(sparse: Sparse | None, rows: int) -> dict[str, torch.Tensor | None]:
    """Single weights row after row, and where each row's begin."""
    if sparse is None:
        return dict.fromkeys(("starts", "places", "values"))
    places, values = sparse.by_row()
    starts = np.searchsorted(places[:, 0], np.arange(rows + 1))
    return {
        "starts": torch.from_numpy(starts.astype(np.int32)),
        "places": torch.from_numpy(places[:, 1].astype(np.int32)),
        "values": torch.from_numpy(values.astype(np.float32)),
    }


def _of_low_rank(low_rank: LowRank | None) -> dict[str, torch.Tensor | None]:
    """Left (out, rank) and right (rank, in), filled up with zeros to a power of two."""
    if low_rank is None:
        return dict.fromkeys(("left", "right"))
    more = next_power(len(low_rank.left)) - len(low_rank.left)
    left, right = (np.pad(factor, ((0, more), (0, 0))) for factor in (low_rank.left, low_rank.right))
    return {"left": narrowed(np.ascontiguousarray(left.T)), "right": narrowed(right)}
