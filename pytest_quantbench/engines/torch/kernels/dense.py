"""Products with a matrix whose every weight lies in memory as a number: what nothing was done to, or what is decoded.

A matrix that stays in the checkpoint's type keeps it where a kernel reads it so. A quantized one for whose storage
there is no kernel is decoded once, into the type of the activations, and its kernel is called `decoded`, as records
count it.
"""

import torch
from torch.nn import functional

from pytest_quantbench.engines.torch.arrays import as_torch, named
from pytest_quantbench.engines.torch.kernels.protocol import ALL, Decode, Product
from pytest_quantbench.quantizers import Layer

DECODED = "decoded"


class Dense(Product):
    """PyTorch's own linear product with a matrix of the activations' type."""

    covers = ALL - {"input_rule"}

    def __init__(self, weight: torch.Tensor, kernel: str) -> None:
        super().__init__()
        self.register_buffer("weight", weight)  # (out, in)
        self.weight: torch.Tensor
        self.kernel = kernel
        self.bytes_per_token = weight.nbytes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)."""
        return functional.linear(x, self.weight)


def decoded(layer: Layer | None, decode: Decode, device: torch.device, dtype: torch.dtype) -> Product:
    """The decoded matrix, which has every part of the layer in it but a rule for inputs. One that was never quantized,
    a layer without any part, is called by the type of the activations instead. None: how it is stored is not described.
    """
    untouched = layer is not None and all(getattr(layer, part) is None for part in ALL)
    name = f"linear, {named(dtype)}" if untouched else DECODED
    return Dense(as_torch(decode()).to(device, dtype), name)


def anything(layer: Layer, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether it can be decoded: always."""
    return True
