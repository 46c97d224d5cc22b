"""Rows with one scale each, and inputs on an integer grid: what the methods that quantize activations share."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.numerics.bit_packing import pack, unpack

BITS = (4, 8)


def check(name: str, bits: int) -> None:
    """Raise QuantbenchError for a width that weights and activations are not both quantized to."""
    if bits not in BITS:
        raise QuantbenchError(f"{name} cannot have bits = {bits}; weights and activations take {BITS}.")


def encode(weight: mx.array, bits: int) -> dict[str, mx.array]:
    """Symmetric codes, a float32 scale per row: `codes` (out, bytes) uint8, `scales` (out,), `in_features` (1,)."""
    dense = np.array(weight.astype(mx.float32))  # (out, in)
    top = 2 ** (bits - 1) - 1
    scales = np.maximum(np.abs(dense).max(axis=1) / np.float32(top), np.finfo(np.float32).tiny)
    codes = (np.rint(dense / scales[:, None]) + top).astype(np.uint8)
    padded = np.pad(codes, ((0, 0), (0, -dense.shape[1] % 8)))
    shape = mx.array([dense.shape[1]], mx.int32)
    return {"codes": mx.array(pack(padded, bits)), "scales": mx.array(scales), "in_features": shape}


def decode(arrays: dict[str, mx.array], bits: int) -> mx.array:
    """The dense (out, in) float32 weight."""
    codes = unpack(np.array(arrays["codes"]), bits)[:, : int(np.array(arrays["in_features"])[0])]
    top = np.float32(2 ** (bits - 1) - 1)
    return mx.array((codes - top) * np.array(arrays["scales"])[:, None])


class RuledLinear(nn.Module):
    """A dense layer of decoded weights whose inputs are put on their grid first."""

    def __init__(self, weight: mx.array, rule: Callable[[mx.array], mx.array]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weight = weight
        self._rule = rule

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        return self._rule(x) @ self.weight.T
