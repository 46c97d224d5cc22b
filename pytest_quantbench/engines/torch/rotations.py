"""Rotations around a layer: its grid is that of a rotated matrix, so inputs are rotated before it and outputs after it.

The transform is that of `quantizers/numerics/hadamard`: blocks of an orthogonal matrix that is a Kronecker product of
two factors, and as such is applied by two small products.
"""

import torch
from torch import nn

from pytest_quantbench.engines.torch.arrays import to_torch
from pytest_quantbench.quantizers.layer import Rotation
from pytest_quantbench.quantizers.numerics import hadamard


class Transform(nn.Module):
    """(…, n) → H x along the last axis, or Hᵀ x for the inverse; Hᵀ H is the identity."""

    def __init__(self, n: int, device: torch.device, dtype: torch.dtype, inverse: bool = False) -> None:
        super().__init__()
        left, right = (to_torch(factor).to(device, dtype) for factor in hadamard.factors(n))
        self.left: torch.Tensor
        self.right: torch.Tensor
        self.register_buffer("left", left.T.contiguous() if inverse else left)  # (l, l)
        self.register_buffer("right", (right if inverse else right.T).contiguous())  # (r, r), from the right

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, n) → (…, n)."""
        blocks = x.reshape(*x.shape[:-1], -1, len(self.left), len(self.right))
        turned: torch.Tensor = self.left @ blocks @ self.right
        return turned.reshape(x.shape)


class Rotated(nn.Module):
    """What goes through the layer of a rotated matrix: out signs · Hᵀ layer(H (in signs · x)), inputs padded."""

    def __init__(self, rotation: Rotation, layer: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer
        self.input_signs: torch.Tensor
        self.output_signs: torch.Tensor
        for name in ("input_signs", "output_signs"):
            self.register_buffer(name, to_torch(getattr(rotation, name)).to(device, dtype))
        self.before = Transform(len(rotation.input_signs), device, dtype)
        self.after = Transform(len(rotation.output_signs), device, dtype, inverse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)."""
        missing = len(self.input_signs) - x.shape[-1]
        padded = nn.functional.pad(x, (0, missing)) if missing else x
        turned: torch.Tensor = self.after(self.layer(self.before(padded * self.input_signs)))
        return turned * self.output_signs
