"""Rows with one scale each: how the methods store weights that also quantize the inputs of their layers."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import row_length
from pytest_quantbench.quantizers.numerics.bit_packing import pack, unpack
from pytest_quantbench.quantizers.protocol import Array, Arrays

BITS = (4, 8)


def check(name: str, bits: int) -> None:
    """Raise QuantbenchError for a width that weights and activations are not both quantized to."""
    if bits not in BITS:
        raise QuantbenchError(f"{name} cannot have bits = {bits}; weights and activations take {BITS}.")


def encode(weight: Array, bits: int) -> Arrays:
    """Symmetric codes, a float32 scale per row: `codes` (out, bytes) uint8, `scales` (out,), `in_features` (1,)."""
    dense = weight.astype(np.float32)  # (out, in)
    top = 2 ** (bits - 1) - 1
    scales = np.maximum(np.abs(dense).max(axis=1) / np.float32(top), np.finfo(np.float32).tiny)
    codes = (np.rint(dense / scales[:, None]) + top).astype(np.uint8)
    padded = np.pad(codes, ((0, 0), (0, -dense.shape[1] % 8)))
    return {"codes": pack(padded, bits), "scales": scales, "in_features": np.array([dense.shape[1]], np.int32)}


def decode(arrays: Mapping[str, Array], bits: int) -> NDArray[np.float32]:
    """The dense (out, in) float32 weight."""
    codes = unpack(arrays["codes"], bits)
    levels = codes[:, : row_length(arrays, codes.shape[1])] - np.float32(2 ** (bits - 1) - 1)
    return np.asarray(levels * arrays["scales"][:, None])
