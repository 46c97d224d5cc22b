"""What MLX can hold of a layer: its grid, without padding, and with single weights moved onto it.

MLX multiplies with an affine or a microscaled matrix as it is stored, and with nothing beside it. A grid whose padding
begins where a group does is cut there, which changes nothing. Single weights that a method keeps beside its grid
(`Sparse`) become the grid's nearest level: those differ. Scales of the inputs or the outputs, low-rank parts and rules
for activations have no place there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pytest_quantbench.quantizers.layer import Affine, Codebooks, Layer, Microscaled, Sparse, padding
from pytest_quantbench.quantizers.mlx_form import Grid, grid_of
from pytest_quantbench.quantizers.numerics.bit_packing import pack, unpack

GROUPS = (16, 32, 64, 128)  # that MLX has kernels for, of whatever mode
REASONS: Mapping[str, Callable[[Layer], bool]] = {
    "rounds its inputs": lambda layer: layer.input_rule is not None,
    "is no grid of codes and scales": lambda layer: layer.grid is None or isinstance(layer.grid, Codebooks),
    "multiplies its inputs by scales": lambda layer: layer.input_scales is not None,
    "multiplies its outputs by a scale": lambda layer: layer.scale is not None,
    "adds a low-rank product": lambda layer: layer.low_rank is not None,
    "keeps some columns dense": lambda layer: layer.columns is not None,
    "rotates its inputs": lambda layer: layer.rotation is not None,
    "adds single weights to a grid that is not affine": lambda layer: (
        layer.sparse is not None and not isinstance(layer.grid, Affine)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The grid that MLX holds in place of a layer, and how many single weights were moved onto it."""

    grid: Grid
    moved: int = 0


def why_not(layer: Layer | None) -> str | None:
    """What the layer has that MLX cannot hold, as the end of a sentence; None where there is nothing of the kind."""
    if layer is None:
        return "is no grid of codes and scales"
    found = next((reason for reason, applies in REASONS.items() if applies(layer)), None)
    grid = grid_of(layer)
    if found is None and grid is not None and grid.group not in GROUPS:
        return f"has groups of {grid.group}, not of {', '.join(map(str, GROUPS))}"
    return found


def held(layer: Layer) -> Held | None:
    """What MLX holds of a layer of which `why_not` has nothing to say; None where its padding cannot be cut off."""
    grid = grid_of(layer)
    assert grid is not None
    grid = grid if not padding(grid) else _cut(grid)
    if grid is None or layer.sparse is None:
        return None if grid is None else Held(grid=grid)
    assert isinstance(grid, Affine)
    return Held(grid=_with_nearest(grid, layer.sparse), moved=len(layer.sparse.places))


def _cut(grid: Grid) -> Grid | None:
    """Without the groups behind the layer's inputs; None where a group or a word of codes holds some of both."""
    length, word_bits = grid.in_features, grid.in_features * grid.bits
    if length % grid.group or word_bits % 32:
        return None
    groups = slice(0, length // grid.group)
    codes, scales = grid.codes[:, : word_bits // 32], grid.scales[:, groups]
    if isinstance(grid, Microscaled):
        return replace(grid, codes=codes, scales=scales)
    return replace(grid, codes=codes, scales=scales, biases=grid.biases[:, groups])


def _with_nearest(grid: Affine, sparse: Sparse) -> Affine:
    """With every weight that is added to the grid on the level that is nearest to the sum."""
    codes = grid.codes.copy()
    for (row, column), value in zip(sparse.places, sparse.values.astype(np.float32), strict=True):
        scale = np.float32(grid.scales[row, column // grid.group])
        if scale == 0:
            continue  # a group of one level: there is none to choose
        own = unpack(codes[row : row + 1].view(np.uint8), grid.bits)  # (1, in)
        own[0, column] = np.clip(np.rint(own[0, column] + value / scale), 0, 2**grid.bits - 1)
        codes[row] = pack(own, grid.bits).view(np.uint32)[0]
    return replace(grid, codes=codes)
