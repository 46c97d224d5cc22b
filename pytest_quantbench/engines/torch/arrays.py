"""Arrays between numpy, in which quantizers compute, and PyTorch, without a copy where the host has the memory.

PyTorch gives numpy neither bfloat16 nor numbers of eight bits. Their bits are handed over as whole numbers and seen
there as the types of ml_dtypes.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file

from pytest_quantbench.checkpoints.tensor_file import STORABLE
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Array
from pytest_quantbench.storage.files import free_bytes


def named(dtype: torch.dtype) -> str:
    """A type as records and numpy spell it, such as `bfloat16`."""
    return str(dtype).removeprefix("torch.")


# torch's type → the whole numbers of its size in torch, and what they are seen as in numpy
UNKNOWN_TO_NUMPY: Mapping[torch.dtype, tuple[torch.dtype, Any]] = {
    torch.bfloat16: (torch.int16, np.dtype(ml_dtypes.bfloat16)),
    torch.float8_e4m3fn: (torch.uint8, np.dtype(ml_dtypes.float8_e4m3fn)),
    torch.float8_e5m2: (torch.uint8, np.dtype(ml_dtypes.float8_e5m2)),
    torch.float8_e8m0fnu: (torch.uint8, np.dtype(ml_dtypes.float8_e8m0fnu)),
}
BACK: Mapping[Any, tuple[Any, torch.dtype]] = {
    seen: (np.dtype(named(bits)), dtype) for dtype, (bits, seen) in UNKNOWN_TO_NUMPY.items()
}


def to_numpy(tensor: torch.Tensor) -> Array:
    """The same values and type, in the memory where PyTorch has them if the host can read it. Nobody may write there.

    A tensor on another device is copied.
    """
    held = tensor.detach().cpu()
    if held.dtype in UNKNOWN_TO_NUMPY:
        bits, seen = UNKNOWN_TO_NUMPY[held.dtype]
        array: Array = held.view(bits).numpy().view(seen)
    else:
        array = held.numpy()
    array.flags.writeable = False
    return array


def to_torch(array: Array) -> torch.Tensor:
    """The same values and type, in numpy's memory. Nobody may write there where numpy may not.

    Raises QuantbenchError for a type that PyTorch does not have.
    """
    bits, dtype = BACK.get(array.dtype, (array.dtype, None))
    plain = np.ascontiguousarray(array).reshape(array.shape).view(bits)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(plain)
    except TypeError as error:
        raise QuantbenchError(f"PyTorch has no type for an array of {array.dtype}.") from error
    return tensor if dtype is None else tensor.view(dtype)


def as_torch(array: "torch.Tensor | Array") -> torch.Tensor:
    """PyTorch's own as it is, numpy's as `to_torch` gives it."""
    return array if isinstance(array, torch.Tensor) else to_torch(array)


def save(file: Path, arrays: Mapping[str, Array]) -> None:
    """Write a safetensors file that says it is PyTorch's. Raises OSError where that fails, and QuantbenchError for a
    type that other engines would not take.
    """
    for array in arrays.values():
        if array.dtype not in STORABLE:
            raise QuantbenchError(f"An array of {array.dtype} cannot be stored: safetensors files do not have it.")
    try:
        save_file(dict(arrays), file, metadata={"format": "pt"})
    except SafetensorError as error:
        free_mb = free_bytes(file.parent) / 1e6
        raise OSError(f"{file.name}: {str(error).rstrip('.')}, {free_mb:.0f} MB are free") from None
