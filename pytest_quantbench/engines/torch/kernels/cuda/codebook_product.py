"""Layers whose matrix is made of codebooks' words, by kernels of Triton, with dense columns for some inputs.

Where codebooks are small and vectors lie along the inputs (AQLM), one token goes by tables (`word_tables`). Otherwise
words are looked up (VPTQ), or worked out where they are a lattice's (QuIP#).
"""

from functools import cache

import numpy as np
import torch

from pytest_quantbench.engines.torch.kernels.cuda import FromGrid
from pytest_quantbench.engines.torch.kernels.cuda.codebook_codes import (
    NARROW,
    lattice_bits,
    narrowed,
    stages_of,
    tiled,
)
from pytest_quantbench.engines.torch.kernels.cuda.codebook_operators import (
    Kind,
    table_matvec,
    word_matmul,
    word_matvec,
)
from pytest_quantbench.engines.torch.kernels.cuda.launching import next_power
from pytest_quantbench.quantizers import Layer
from pytest_quantbench.quantizers.layer import Codebooks, Columns, padding
from pytest_quantbench.quantizers.layer_matrix import beyond_words
from pytest_quantbench.quantizers.numerics import e8_lattice


class Worded(FromGrid):
    """A matrix of codebooks' words, and the dense weights of some inputs."""

    covers = frozenset({"grid", "columns"})
    places: torch.Tensor | None  # (count,) int32
    values: torch.Tensor  # (out, count): what dense weights have more than words

    def __init__(self, layer: Layer, device: torch.device, kernel: str) -> None:
        super().__init__()
        grid = layer.grid
        assert isinstance(grid, Codebooks)
        self.kernel = kernel
        self.columns = grid.in_features + (padding(grid) if layer.rotation is not None else 0)
        lattice, along = lattice_bits(grid), grid.along == "inputs"
        narrow, wide = stages_of(grid)
        by_tables = along and not len(wide.codes) and grid.words.shape[1] <= NARROW and grid.length <= 16
        self.kind = list(Kind(grid.out_features, grid.length, along, lattice or 0, by_tables))
        held: dict[str, torch.Tensor | None] = {
            "narrow": tiled(grid.codes) if by_tables else narrow.codes,
            "narrow_words": narrow.words,
            "wide": wide.codes,
            "wide_words": wide.words,
            "scales": torch.from_numpy(np.resize(grid.scales.astype(np.float32), grid.out_features)),
            **_dense(grid, layer.columns),
        }
        for name, tensor in held.items():
            self.register_buffer(name, None if tensor is None else tensor.to(device).contiguous())
        self.bytes_per_token = sum(tensor.nbytes for tensor in self.buffers())
        self.all_words = self.wide_words if lattice is None else lattice_words(device)  # shared: nobody's buffer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)."""
        flat = x.reshape(-1, self.columns).contiguous()
        return self.product(flat, x.dtype).reshape(*x.shape[:-1], -1)

    def product(self, x: torch.Tensor, out: torch.dtype) -> torch.Tensor:
        """Contiguous (tokens, in) → (tokens, out) in some type: sums are float32 in any case."""
        columns = [] if self.places is None else [self.places, self.values]
        if len(x) > 1:
            narrow, wide = [self.narrow, self.narrow_words], [self.wide, self.all_words]
            many: torch.Tensor = word_matmul(x, narrow, wide, self.scales, self.kind, torch.float32 if columns else out)
            return many if not columns else self._with_columns(x, many).to(out)
        one: torch.Tensor
        if self.kind[-1]:
            one = table_matvec(x, self.narrow, self.narrow_words, self.scales, columns, self.kind, out)
        else:
            narrow, wide = [self.narrow, self.narrow_words], [self.wide, self.wide_words]
            one = word_matvec(x, narrow, wide, self.scales, columns, self.kind, out)
        return one

    def _with_columns(self, x: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        assert self.places is not None
        return result + x[:, self.places].float() @ self.values.float().T


def _dense(grid: Codebooks, columns: Columns | None) -> dict[str, torch.Tensor | None]:
    """Places and values of dense columns, filled up to a power of two with columns of zeros."""
    if columns is None:
        return dict.fromkeys(("places", "values"))
    more = next_power(len(columns.places)) - len(columns.places)
    return {
        "places": torch.from_numpy(np.pad(columns.places, (0, more)).astype(np.int32)),
        "values": narrowed(np.pad(beyond_words(grid, columns), ((0, 0), (0, more)))),
    }


@cache
def lattice_words(device: torch.device) -> torch.Tensor:
    """(1, 65536, 8) float16, which holds them exactly: one array for all matrices on a device."""
    return torch.from_numpy(e8_lattice.stages(2).astype(np.float16)).to(device)
