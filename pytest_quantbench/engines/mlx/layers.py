"""Layers of MLX from their descriptions, and what such a layer's matrix is when MLX's own kernels decode it.

What is MLX's own storage and nothing else becomes MLX's quantized layer. Whatever has something beside its grid is
that layer, or a dense one, in an `Around`.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.engines.mlx.arrays import to_mlx
from pytest_quantbench.engines.mlx.codebook_layer import CodebookLinear, runs_as_stored
from pytest_quantbench.engines.mlx.experts import Routed
from pytest_quantbench.engines.mlx.host_products import backend
from pytest_quantbench.quantizers import Array, InputRule, Layer, PerToken
from pytest_quantbench.quantizers.encoding import Encoding, Rules
from pytest_quantbench.quantizers.layer import LEAST_SCALE, Fixed, padding
from pytest_quantbench.quantizers.mlx_form import grid_of, kind_of, stored

Rounding: TypeAlias = Callable[[mx.array], mx.array]


def rounding(rule: InputRule) -> Rounding:
    """What becomes of inputs (…, in), as the rule's own `rounded` defines it."""
    if isinstance(rule, PerToken):
        return lambda x: _per_token(x, rule.top)
    return lambda x: _fixed(x, rule)


def _per_token(x: mx.array, top: int) -> mx.array:
    scale = mx.maximum(mx.abs(x).max(axis=-1, keepdims=True) / top, LEAST_SCALE)
    return mx.round(x / scale) * scale


def _fixed(x: mx.array, rule: Fixed) -> mx.array:
    return (mx.clip(mx.round(x / rule.step) + rule.zero, 0, rule.top) - rule.zero) * rule.step


def module(layer: Layer, decode: Callable[[], Array]) -> nn.Module:
    """(…, in) → (…, out), without bias; one that is put under "bias" is added. `decode` gives the decoded matrix, where
    the layer needs that.
    """
    if runs_as_stored(layer):
        return CodebookLinear(layer)
    product: nn.Module
    grid = grid_of(layer)
    if grid is None:
        product = nn.Linear(1, 1, bias=False)
        product.weight = to_mlx(decode())
    else:
        group, bits, mode = kind_of(grid)
        product = nn.QuantizedLinear(128, 32, False, group_size=group, bits=bits, mode=mode)
        product.update({name: to_mlx(array) for name, array in stored(grid).items()})
        return product if layer.is_grid_alone else Around(product, layer)
    return product if layer.input_rule is None else Around(product, Layer(input_rule=layer.input_rule))


class Around(nn.Module):
    """A product with a matrix, and what a layer has around it."""

    def __init__(self, product: nn.Module, layer: Layer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.product = product
        self.padding = 0 if layer.grid is None else padding(layer.grid)
        self._rounding = None if layer.input_rule is None else rounding(layer.input_rule)
        if layer.input_scales is not None:
            self.input_scales = to_mlx(layer.input_scales)
        if layer.scale is not None:
            self.scale = to_mlx(layer.scale)
        if layer.sparse is not None:
            self.rows, self.columns = (to_mlx(places) for places in layer.sparse.places.T)
            self.scalars = to_mlx(layer.sparse.values)
        if layer.low_rank is not None:
            self.left, self.right = to_mlx(layer.low_rank.left), to_mlx(layer.low_rank.right)

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        if "input_scales" in self:
            x = x * self.input_scales.astype(x.dtype)
        if self._rounding is not None:
            x = self._rounding(x)
        padded = mx.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, self.padding)]) if self.padding else x
        y: mx.array = self.product(padded)
        if "scale" in self:
            y = y * self.scale
        if "scalars" in self:
            y = y.at[..., self.rows].add((x[..., self.columns] * self.scalars).astype(y.dtype))
        if "left" in self:
            y = y + (x @ self.right.T) @ self.left
        return y + self.bias if "bias" in self else y


def native(encoding: Encoding) -> nn.Module | None:
    """The layer of a matrix as it is stored; None where it runs decoded."""
    (layer,) = encoding.layers()
    if layer is None or (layer.grid is not None and grid_of(layer) is None and not runs_as_stored(layer)):
        return None
    return module(layer, encoding.dense)


def native_experts(encoding: Encoding) -> nn.Module | None:
    """MLX's own quantized experts, where every expert's matrix is a grid alone and all are stored alike; else None."""
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear

    grids = [grid_of(layer) for layer in encoding.layers() if layer is not None and layer.is_grid_alone]
    kinds = {kind_of(grid) for grid in grids if grid is not None}
    if len(grids) < encoding.shape[0] or len(kinds) != 1:
        return None
    ((group, bits, mode),) = kinds
    experts = QuantizedSwitchLinear(128, 32, 1, bias=False, group_size=group, bits=bits, mode=mode)
    held = [stored(grid) for grid in grids if grid is not None]
    for name in ("weight", "scales", "biases"):
        experts[name] = to_mlx(np.stack([each[name] for each in held])) if name in held[0] else None
    return experts


def dense(encoding: Encoding) -> mx.array | Array:
    """The decoded parameter. On a CPU by the method itself, in numpy; elsewhere by MLX's kernels where they can, for
    what goes through numpy goes through the host.
    """
    parts = [decoded(layer) for layer in encoding.layers()] if backend() != "cpu" else [None]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return encoding.dense()
    return mx.stack(known) if len(encoding.shape) == 3 else known[0]


def decoded(layer: Layer | None) -> mx.array | None:
    """The (out, in) float32 matrix of a layer by MLX's kernels; None where the layer has no grid."""
    grid = grid_of(layer)
    if layer is None or grid is None:
        return None
    group, bits, mode = kind_of(grid)
    held = {name: to_mlx(array) for name, array in stored(grid).items()}
    if mode == "affine":  # scales and biases as float32: what is decoded is not rounded to their 16 bits
        scales, biases = (held[name].astype(mx.float32) for name in ("scales", "biases"))
        dense = mx.dequantize(held["weight"], scales, biases, group_size=group, bits=bits)
    else:
        kind: dict[str, Any] = {"group_size": group, "bits": bits, "mode": mode}
        dense = mx.dequantize(held["weight"], held["scales"], **kind, dtype=mx.float32)
    return _with_the_rest(dense[:, : grid.in_features], layer)


def _with_the_rest(dense: mx.array, layer: Layer) -> mx.array:
    """A decoded grid with the parts of the layer that are factors of its matrix, or added to it."""
    if layer.scale is not None:
        dense = dense * to_mlx(layer.scale)
    if layer.sparse is not None:
        rows, columns = (to_mlx(places) for places in layer.sparse.places.T)
        dense = dense.at[rows, columns].add(to_mlx(layer.sparse.values).astype(mx.float32))
    if layer.low_rank is not None:
        dense = dense + to_mlx(layer.low_rank.left).T @ to_mlx(layer.low_rank.right)
    return dense if layer.input_scales is None else dense * to_mlx(layer.input_scales).astype(mx.float32)


class RuledInputs(nn.Module):
    """A linear layer of a walk whose inputs are put on their grid first: quantized activations."""

    def __init__(self, rule: InputRule, layer: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rounding = rounding(rule)
        self._layer = (layer,)  # a tuple: the layer's weights belong to the walk, not to this stand-in

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        product: mx.array = self._layer[0](self._rounding(x))
        return product


class RuledExperts(nn.Module):
    """A layer of experts in front of which every expert has a rule of its own for its inputs."""

    def __init__(self, rules: tuple[InputRule, ...], layer: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._roundings = tuple(rounding(rule) for rule in rules)
        self._layer = (layer,)

    def __call__(self, x: mx.array, indices: mx.array, sorted_indices: bool = False) -> mx.array:
        """(…, rows, in) and the experts' numbers (…) → (…, rows, out)."""
        routed, blocks = Routed(x, indices), x.reshape(-1, *x.shape[-2:])
        parts = [self._roundings[expert](blocks[mx.array(routed.sources[part])]) for expert, part in routed]
        ruled = mx.concatenate(parts)[mx.array(np.argsort(routed.order))]
        product: mx.array = self._layer[0](
            ruled.reshape(*routed.shape, *x.shape[-2:]), mx.broadcast_to(indices, routed.shape), sorted_indices
        )
        return product


def ruled(rules: Rules, layer: nn.Module) -> nn.Module:
    """The layer behind its rule, or behind those of its experts."""
    return RuledExperts(rules, layer) if isinstance(rules, tuple) else RuledInputs(rules, layer)
