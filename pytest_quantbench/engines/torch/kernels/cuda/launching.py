"""Starting kernels: what is said where Triton cannot compile one, and how many rows a program gets."""

import os
from typing import Any

import torch
import triton
import triton.language as tl
from triton.errors import TritonError

from pytest_quantbench.errors import QuantbenchError, first_line

WARP = 32


def started(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a kernel. Raises QuantbenchError where Triton or what it needs cannot compile it; nothing else is tried."""
    try:
        kernel[grid](*arguments, **constants, enable_fp_fusion=True)  # a product and a sum are one instruction
    except (TritonError, RuntimeError, OSError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise QuantbenchError(
            f"Triton {triton.__version__} cannot compile or start the kernel {kernel.__name__} on "
            f"{device_name()}: {first_line(error)}. Install the Triton that belongs to PyTorch {torch.__version__} and "
            f"a C compiler, or choose another engine with --engine."
        ) from error


def device_name() -> str:
    """What PyTorch calls the device on which kernels run."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "this machine"


def operands(dtype: torch.dtype) -> Any:
    """The type of a product's operands: that of the inputs; float32 in Triton's interpreter, which has no bfloat16."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return tl.float32
    return {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[dtype]


def next_power(number: int) -> int:
    """The smallest power of two that is not below."""
    return 1 << max(0, number - 1).bit_length()


def rows_of_program(rows: int, stripes_at_once: int, most: int = 4) -> tuple[int, int]:
    """How many rows a program of one-token products takes, and its warps: a thread has a stripe of each row.

    As many rows as pay back the inputs that a thread reads, as long as there are enough programs to fill a GPU.
    """
    warps = max(1, stripes_at_once // WARP)
    chosen = most
    while chosen > 1 and rows // chosen < 512:
        chosen //= 2
    return chosen, warps
