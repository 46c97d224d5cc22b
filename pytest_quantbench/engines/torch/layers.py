"""Layers of PyTorch from their descriptions, and what such a layer's matrix is when it is decoded on the device.

A kernel multiplies with the grid, or with more of the layer (`Product.covers`); what is left of it is put around the
kernel here. Where a layer has no grid, or none that a kernel takes, the product is with the decoded matrix.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from pytest_quantbench.engines.torch.arrays import to_torch
from pytest_quantbench.engines.torch.kernels import product_for
from pytest_quantbench.engines.torch.kernels.protocol import Decode, Product
from pytest_quantbench.engines.torch.rotations import Rotated, Transform
from pytest_quantbench.engines.torch.rules import rounding
from pytest_quantbench.engines.torch.stored_rows import Parts, StoredRows
from pytest_quantbench.quantizers import Array, Layer
from pytest_quantbench.quantizers.encoding import Encoding

Rows = NDArray[np.float32]


class Around(Parts):
    """A kernel's product, and around it what a layer has beside what the kernel covers; (…, in) → (…, out)."""

    def __init__(self, product: Product, layer: Layer, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(layer, product.covers, device, dtype)
        self.product = product
        wanting = {part for part in ("sparse", "low_rank") if getattr(layer, part) is not None} & product.covers
        if self.column_places is not None and wanting:
            raise ValueError(f"{product.kernel!r} would see no inputs of dense columns in parts that want them all.")
        ruled = layer.input_rule is not None and "input_rule" not in product.covers
        self._rounded = rounding(layer.input_rule) if ruled and layer.input_rule is not None else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)."""
        if self.input_scales is not None:
            x = x * self.input_scales
        if self._rounded is not None:
            x = self._rounded(x)
        y: torch.Tensor = self.product(x if self.column_places is None else x.index_fill(-1, self.column_places, 0))
        if self.scale is not None:
            y = y * self.scale
        if self.column_places is not None:
            y = y + functional.linear(x[..., self.column_places], self.column_values)
        if self.sparse_values is not None:
            y = y.index_add(-1, self.sparse_rows, x[..., self.sparse_columns] * self.sparse_values)
        return y if self.right is None else y + functional.linear(functional.linear(x, self.right), self.left)


class Linear(nn.Module):
    """What takes the place of a model's linear layer: (…, in) → (…, out)."""

    bias: torch.Tensor | None

    def __init__(self, product: Product, whole: nn.Module, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.kernel, self._read = product.kernel, product.bytes_per_token - sum(b.nbytes for b in product.buffers())
        self.whole = whole
        self.register_buffer("bias", bias)

    @property
    def bytes_per_token(self) -> int:
        """What one decode step reads of it."""
        return self._read + sum(held.nbytes for held in self.buffers())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)."""
        y: torch.Tensor = self.whole(x)
        return y if self.bias is None else y + self.bias


def linear(
    layer: Layer | None, decode: Decode, device: torch.device, dtype: torch.dtype, bias: torch.Tensor | None = None
) -> Linear:
    """The module of a layer for activations of `dtype`; `decode` gives the decoded matrix, for kernels that need it.
    None is a quantized layer that its method does not describe: it is decoded.
    """
    product = product_for(layer, decode, device, dtype)
    layer = layer or Layer()  # with nothing beside the matrix
    beside = {part for part in Layer.__dataclass_fields__ if getattr(layer, part) is not None} - product.covers
    whole: nn.Module = Around(product, layer, device, dtype) if beside - {"rotation", "grid"} else product
    if "rotation" in beside and layer.rotation is not None:
        whole = Rotated(layer.rotation, whole, device, dtype)
    return Linear(product, whole, None if bias is None else bias.to(device, dtype))


def outputs(layer: Layer, decode: Callable[[], Array], inputs: Rows, device: torch.device) -> Rows:
    """(…, in) → (…, out) in float32, by what is built of a described layer."""
    built = linear(layer, decode, device, torch.float32)
    with torch.no_grad():
        made: Rows = built(to_torch(inputs).to(device)).cpu().numpy()
    return made


def decoded(layer: Layer | None, device: torch.device) -> torch.Tensor | None:
    """The (out, in) float32 matrix of a layer, decoded on the device; None where the layer has no grid."""
    if layer is None or layer.grid is None:
        return None
    with torch.no_grad():
        dense = StoredRows(layer, device).matrix()
        if layer.rotation is None:
            return dense
        signs = (to_torch(each).to(device) for each in (layer.rotation.input_signs, layer.rotation.output_signs))
        ins, outs = signs
        turned = Transform(len(ins), device, torch.float32, inverse=True)(dense) * ins  # G T · in signs: rows
        back = Transform(len(outs), device, torch.float32, inverse=True)(turned.T).T
        turned_back: torch.Tensor = (back * outs[:, None])[:, : layer.grid.in_features]
        return turned_back


def matrix(layer: Layer, device: torch.device) -> Rows | None:
    """The same in numpy."""
    found = decoded(layer, device)
    if found is None:
        return None
    made: Rows = found.cpu().numpy()
    return made


def dense(encoding: Encoding, device: torch.device) -> torch.Tensor | Array:
    """A decoded parameter. On a CPU by the method itself, in numpy; elsewhere on the device, where the layers have
    grids, for what goes through numpy goes through the host.
    """
    parts = [decoded(layer, device) for layer in encoding.layers()] if device.type != "cpu" else [None]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return encoding.dense()
    return torch.stack(known) if len(encoding.shape) == 3 else known[0]
