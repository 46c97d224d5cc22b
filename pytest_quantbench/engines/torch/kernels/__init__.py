"""Products with quantized matrices as they are stored: the table of kernels, and which of them runs a layer.

Kernels are compiled when they are first needed: for a CPU by LLVM, for CUDA by Triton. PyTorch's own stand in the
table, too. What no other takes is decoded, and says so by its name.
"""

from typing import Any

import torch

from pytest_quantbench.engines import registry
from pytest_quantbench.engines.torch.kernels import cuda, dense
from pytest_quantbench.engines.torch.kernels.protocol import Decode, Kernel, Product
from pytest_quantbench.quantizers import Layer

__all__ = ["KERNELS", "Kernel", "Product", "product_for"]


def _lazy(name: str, device: str, module: str) -> Kernel:
    """A kernel whose module, which brings a compiler, is imported when a layer is there; it has `fits` and `made`."""

    def part(function: str) -> Any:
        return lambda *given: getattr(registry.part("torch", f"{__name__}.{module}"), function)(*given)

    return Kernel(name=name, devices=frozenset({device}), fits=part("fits"), make=part("made"))


KERNELS: tuple[Kernel, ...] = (
    *cuda.KERNELS,
    _lazy("rows of 16-bit numbers", "cpu", "cpu.rows"),
    _lazy("codes in groups", "cpu", "cpu.codes_in_groups"),
    _lazy("codebooks", "cpu", "cpu.codebooks"),
    Kernel(name=dense.DECODED, devices=frozenset({"cpu", "cuda", "mps"}), fits=dense.anything, make=dense.decoded),
)


def product_for(layer: Layer | None, decode: Decode, device: torch.device, dtype: torch.dtype) -> Product:
    """A module that multiplies with the matrix of a layer by the first kernel that takes it.

    `decode` gives the decoded matrix in whatever type it has, for kernels that need it; a matrix to which nothing was
    done is `Layer()`, and `decode` gives it as it is stored; a quantized one that its method does not describe is None.
    `dtype` is that of the activations.
    """
    if layer is None:
        return dense.decoded(None, decode, device, dtype)
    kernel = next(kernel for kernel in KERNELS if kernel.takes(layer, device, dtype))
    return kernel.make(layer, decode, device, dtype)
