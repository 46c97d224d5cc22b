"""Matrices as MLX's affine kernels store them: codes of a row in groups, each with a 16-bit scale and bias.

Shared by every method whose result is such a matrix; how codes, scales and biases are found is the method's own.
Decoded weight = code × scale + bias. Storage: bits + 32 / group per weight. A row length that no group divides gets a
smaller group or is padded on the right; the padding is stored and therefore counted.
"""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.numerics.bit_packing import Codes, pack, unpack

BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)


def check(name: str, bits: int, group_size: int) -> None:
    """Raise QuantbenchError for bits or a group that MLX's affine kernels do not take."""
    for field, value, choices in (("bits", bits, BITS), ("group_size", group_size, GROUPS)):
        if value not in choices:
            raise QuantbenchError(f"{name} cannot have {field} = {value}; MLX's affine kernels take {choices}.")


def fit(in_features: int, group_size: int, bits: int) -> tuple[int, int]:
    """The group used for rows of this length, and the length to which they are padded.

    The wanted group if it divides the row, else the largest smaller one that does, else whichever of them stores
    least with padding.
    """
    groups = [group for group in reversed(GROUPS) if group <= group_size]
    for group in groups:
        if in_features % group == 0:
            return group, in_features
    padded = [(group, -(-in_features // group) * group) for group in groups]
    return min(padded, key=lambda choice: choice[1] * (bits + 32 / choice[0]))


def note(in_features: int, group_size: int, bits: int) -> str:
    """What `fit` had to change; empty if nothing."""
    group, padded = fit(in_features, group_size, bits)
    changes = [f"rows padded from {in_features} to {padded}"] if padded != in_features else []
    changes += [f"group {group} instead of {group_size}"] if group != group_size else []
    return ", ".join(changes)


def pad(weight: NDArray[np.float32], padded: int) -> NDArray[np.float32]:
    """(out, in) → (out, padded): the last column is repeated, which leaves every group's range as it was."""
    return np.pad(weight, ((0, 0), (0, padded - weight.shape[1])), mode="edge")


def store(codes: Codes, scales: mx.array, biases: mx.array, bits: int, in_features: int) -> dict[str, mx.array]:
    """(out, padded) codes and (out, groups) 16-bit scales and biases → the arrays of one matrix.

    `weight` (out, padded × bits / 32) uint32, `scales`, `biases`, and `in_features` (1,) int32 where rows are padded.
    """
    arrays = {"weight": mx.array(pack(codes, bits).view(np.uint32)), "scales": scales, "biases": biases}
    padded = codes.shape[1] != in_features
    return {**arrays, "in_features": mx.array([in_features], mx.int32)} if padded else arrays


def codes_of(arrays: dict[str, mx.array], bits: int) -> Codes:
    """The (out, padded) codes of a stored matrix."""
    return unpack(np.array(arrays["weight"]).view(np.uint8), bits)


def decode(arrays: dict[str, mx.array], bits: int) -> mx.array:
    """The dense (out, in) weight in float32: code × scale + bias is not rounded to 16 bits, nor do kernels."""
    scales, biases = (arrays[name].astype(mx.float32) for name in ("scales", "biases"))
    dense = mx.dequantize(arrays["weight"], scales, biases, group_size=group_of(arrays, bits), bits=bits)
    return dense if "in_features" not in arrays else dense[:, : _in_features(arrays)]


def linear(arrays: dict[str, mx.array], bits: int) -> nn.Module:
    """MLX's own quantized layer, behind a layer that pads its input where the rows were padded."""
    group = group_of(arrays, bits)
    padded = arrays["scales"].shape[1] * group
    layer = nn.QuantizedLinear(padded, arrays["weight"].shape[0], False, group_size=group, bits=bits)
    layer.update({name: arrays[name] for name in ("weight", "scales", "biases")})
    return layer if "in_features" not in arrays else PaddedLinear(layer, padded - _in_features(arrays))


def mlx_parameters(arrays: dict[str, mx.array], bits: int) -> dict[str, int | str] | None:
    """What MLX's config.json says of this matrix; None where rows were padded."""
    return None if "in_features" in arrays else {"group_size": group_of(arrays, bits), "bits": bits}


def group_of(arrays: Mapping[str, mx.array], bits: int) -> int:
    """How many weights of a row share a scale in a stored matrix."""
    return arrays["weight"].shape[1] * 32 // bits // arrays["scales"].shape[1]


def _in_features(arrays: dict[str, mx.array]) -> int:
    return int(np.array(arrays["in_features"])[0])


class PaddedLinear(nn.Module):
    """A quantized layer whose rows are longer than its input: zeros are appended to the input."""

    def __init__(self, layer: nn.Module, padding: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layer = layer
        self.padding = padding

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        product: mx.array = self.layer(mx.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, self.padding)]))
        return product
