"""How MLX itself stores a quantized matrix: its names for a grid, and what a config.json of its models says of one.

An artifact whose every matrix is stored so is opened by `mlx_lm.load` too, where the engine that made it calls
parameters as mlx-lm does.
"""

from collections.abc import Mapping
from typing import TypeAlias

from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.layer import Affine, Codebooks, Layer, Microscaled
from pytest_quantbench.quantizers.protocol import Array

Grid: TypeAlias = Affine | Microscaled
Entry: TypeAlias = dict[str, int | str]  # of a matrix in the `quantization` part of an MLX config.json


def grid_of(layer: Layer | None) -> Grid | None:
    """The grid of a layer that MLX has kernels for; None where the layer runs decoded there."""
    if layer is None or layer.grid is None or isinstance(layer.grid, Codebooks) or layer.columns or layer.rotation:
        return None
    return layer.grid


def kind_of(grid: Grid) -> tuple[int, int, str]:
    """A grid's group, bits and mode, as MLX calls them."""
    return grid.group, grid.bits, "affine" if isinstance(grid, Affine) else grid.form.name


def stored(grid: Grid) -> dict[str, Array]:
    """A grid's arrays under MLX's names."""
    arrays = {"weight": grid.codes, "scales": grid.scales}
    return {**arrays, "biases": grid.biases} if isinstance(grid, Affine) else arrays


def config_entry(layer: Layer | None, arrays: Mapping[str, Array]) -> Entry | None:
    """The entry in the `quantization` part of an MLX config.json of a matrix that is stored as these arrays; None where
    they are not MLX's own form, so that it cannot open them.
    """
    grid = grid_of(layer)
    if layer is None or grid is None or not layer.is_grid_alone:
        return None
    own = stored(grid)
    if own.keys() != arrays.keys() or any(own[name] is not arrays[name] for name in own):
        return None
    group, bits, mode = kind_of(grid)
    entry: Entry = {"group_size": group, "bits": bits}
    return entry if mode == "affine" else {**entry, "mode": mode}


def entry_of(encoding: Encoding) -> Entry | None:
    """The entry of a parameter, of which every matrix is stored alike; None where MLX cannot read the arrays."""
    matrices = encoding.matrices
    if not {"weight", "scales"} <= matrices[0].keys():
        return None  # without describing the layer
    first, *others = [config_entry(encoding.codec.layer(arrays), arrays) for arrays in matrices]
    return first if all(each == first for each in others) else None
