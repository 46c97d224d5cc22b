"""Kernels for CUDA, written in Triton, which is imported when the first of them is needed.

PyTorch's own int4 kernel (`torch._weight_int4pack_mm`) is not in the table: it rounds scales and decoded weights to
bfloat16, which alone is an error of 1.6e-3, where ours is held to 1e-3. Its float8 product (`torch._scaled_mm`) wants
inputs in float8, which no layer of ours has.
"""

import importlib
from collections.abc import Callable
from typing import cast

import torch

from pytest_quantbench.engines.torch.kernels.cuda.striped_words import can_be_striped
from pytest_quantbench.engines.torch.kernels.protocol import VECTORS, Decode, Kernel, Product
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Layer
from pytest_quantbench.quantizers.layer import Codebooks


class FromGrid(Product):
    """A product whose every part is made of a layer's arrays, for inputs of `columns`."""

    columns: int


Make = Callable[[Layer, torch.device, str], FromGrid]


def _takes_codes(layer: Layer, device: torch.device, dtype: torch.dtype) -> bool:
    beside_columns = layer.columns is not None and (layer.sparse is not None or layer.low_rank is not None)
    return can_be_striped(layer.grid) and dtype.itemsize == 2 and not beside_columns


def _maker(module: str, of: str, kernel: str) -> Callable[[Layer, Decode, torch.device, torch.dtype], Product]:
    """Makes a product of a class in a module of this folder, and compiles its kernels with a first run, where an error
    is seen before anything is captured.
    """

    def make(layer: Layer, decode: Decode, device: torch.device, dtype: torch.dtype) -> Product:
        try:
            found = importlib.import_module(f"{__name__}.{module}")
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
            raise QuantbenchError(
                f"The kernel {kernel!r} needs Triton, which is not installed here: pip install triton, or choose "
                f"another engine with --engine."
            ) from error
        product = cast(Make, getattr(found, of))(layer, device, kernel)
        for tokens in (1, 2, 17):  # a step of decoding, of several texts, a prompt
            product(torch.zeros(tokens, product.columns, dtype=dtype, device=device))
        return product

    return make


def _kernel(name: str, fits: Callable[[Layer, torch.device, torch.dtype], bool], module: str, of: str) -> Kernel:
    return Kernel(name=name, devices=frozenset({"cuda"}), fits=fits, make=_maker(module, of, name))


def _takes_words(layer: Layer, device: torch.device, dtype: torch.dtype) -> bool:
    grid = layer.grid
    if not isinstance(grid, Codebooks) or dtype.itemsize != 2 or grid.length not in VECTORS:
        return False
    count = int(grid.words.shape[1])
    return count & (count - 1) == 0


KERNELS: tuple[Kernel, ...] = (
    _kernel("codes, Triton", _takes_codes, "coded_product", "Coded"),
    _kernel("codebooks, Triton", _takes_words, "codebook_product", "Worded"),
)
