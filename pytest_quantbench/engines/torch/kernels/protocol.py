"""What a kernel is: one way of multiplying with a matrix as it is stored, and the module that it makes of a layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from pytest_quantbench.quantizers import Array, Layer

Decode: TypeAlias = Callable[[], "Array | torch.Tensor"]  # gives the (out, in) matrix, decoded
VECTORS = (1, 2, 4, 8, 16)  # weights of a codebook's word that kernels know
GRID, ALL = frozenset({"grid"}), frozenset(Layer.__dataclass_fields__)


class Product(nn.Module):
    """(…, in) → (…, out), by one kernel. What it holds are buffers.

    `covers` names the parts of the `Layer` that are within the product; whoever builds the whole layer adds the others
    around it: the input rule in front, the rotation on both sides, and so on. Inputs are as long as the matrix's rows,
    not as its padded ones, unless they are rotated. What a plain linear layer adds (`bias`) is never within.
    """

    kernel: str  # the kernel's name, for records
    covers: frozenset[str] = GRID
    bytes_per_token: int  # what one decode step reads of the buffers

    def direct(self, x: torch.Tensor) -> torch.Tensor:
        """The same for contiguous inputs (tokens, in), with nothing of PyTorch's dispatcher in between, where the
        kernel has such a way: for callers that know what they hold, and count microseconds.
        """
        result: torch.Tensor = self(x)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One way of multiplying. Of those in the table that fit, the first is taken."""

    name: str
    devices: frozenset[str]  # types of torch.device
    fits: Callable[[Layer, torch.device, torch.dtype], bool]  # a layer, where it runs, the type of the activations
    make: Callable[[Layer, Decode, torch.device, torch.dtype], Product]

    def takes(self, layer: Layer, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether a layer can be run so."""
        return device.type in self.devices and self.fits(layer, device, dtype)
