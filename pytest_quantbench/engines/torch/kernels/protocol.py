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

    The grid sees zeros at inputs with dense columns, and so does all that is within, unless the columns are, too: a
    kernel that covers single weights or a low-rank product takes no layer that has columns beside what it covers.
    """

    kernel: str  # the kernel's name, for records
    covers: frozenset[str] = GRID
    bytes_per_token: int  # what one decode step reads of the buffers


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
