"""Round to nearest on MLX's affine grid: the plain method that every other one has to beat.

Source: the affine mode of `mlx.core.quantize` (MLX documentation). Each group of weights along a row gets a scale
and a bias from its smallest and largest value, and every weight becomes the nearest of 2^bits levels between them.
No data, one pass, O(out × in). Storage: bits + 32 / group per weight, because scale and bias are 16-bit each.

Where we differ: a float32 source is rounded to bfloat16 first, for MLX stores scales in the input's type and float32
scales would double the overhead. A row length that no group divides is padded on the right by repeating the last
column, which leaves every group's range as it was; the padding is stored and therefore counted.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.errors import QuantbenchError

BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rtn:
    """MLX affine rounding with `bits` per code and a scale and bias for every `group_size` weights of a row."""

    bits: int
    group_size: int = 64

    name: ClassVar[str] = "rtn"
    version: ClassVar[int] = 1
    calibration: ClassVar[Literal["none", "hessian"]] = "none"

    def __post_init__(self) -> None:
        for field, value, choices in (("bits", self.bits, BITS), ("group_size", self.group_size, GROUPS)):
            if value not in choices:
                raise QuantbenchError(f"rtn cannot have {field} = {value}; MLX's affine kernels take {choices}.")

    def fit(self, in_features: int) -> tuple[int, int]:
        """The group size used for rows of this length, and the length to which they are padded.

        The recipe's group if it divides the row, else the largest smaller one that does, else the recipe's group
        with padding (or a smaller group, if that stores less).
        """
        groups = [group for group in reversed(GROUPS) if group <= self.group_size]
        for group in groups:
            if in_features % group == 0:
                return group, in_features
        padded = [(group, -(-in_features // group) * group) for group in groups]
        return min(padded, key=lambda choice: choice[1] * (self.bits + 32 / choice[0]))

    def note(self, weight_shape: tuple[int, int]) -> str:
        """What `fit` had to change for an (out, in) matrix; empty if nothing."""
        group, padded = self.fit(weight_shape[1])
        changes = [f"rows padded from {weight_shape[1]} to {padded}"] if padded != weight_shape[1] else []
        changes += [f"group {group} instead of {self.group_size}"] if group != self.group_size else []
        return ", ".join(changes)

    def encode(self, weight: mx.array, statistics: mx.array | None, seed: int) -> dict[str, mx.array]:
        """(out, in) float → `weight` (out, in × bits / 32) uint32, `scales` and `biases` (out, in / group) 16-bit.

        A padded matrix also has `in_features` (1,) int32, the row length before padding.
        """
        in_features = weight.shape[1]
        group, padded = self.fit(in_features)
        if weight.dtype == mx.float32:
            weight = weight.astype(mx.bfloat16)
        if padded != in_features:
            weight = mx.pad(weight, [(0, 0), (0, padded - in_features)], mode="edge")
        codes, scales, biases = mx.quantize(weight, group_size=group, bits=self.bits)
        arrays = {"weight": codes, "scales": scales, "biases": biases}
        return arrays if padded == in_features else {**arrays, "in_features": mx.array([in_features], mx.int32)}

    def decode(self, arrays: dict[str, mx.array]) -> mx.array:
        """The dense (out, in) weight in float32: code × scale + bias is not rounded to 16 bits, nor do kernels."""
        codes, group = arrays["weight"], self._group(arrays)
        scales, biases = (arrays[name].astype(mx.float32) for name in ("scales", "biases"))
        dense = mx.dequantize(codes, scales, biases, group_size=group, bits=self.bits)
        return dense if "in_features" not in arrays else dense[:, : self._in_features(arrays)]

    def linear(self, arrays: dict[str, mx.array]) -> nn.Module:
        """MLX's own quantized layer, behind a layer that pads its input where the rows were padded."""
        group = self._group(arrays)
        padded = arrays["scales"].shape[1] * group
        layer = nn.QuantizedLinear(padded, arrays["weight"].shape[0], False, group_size=group, bits=self.bits)
        layer.update({name: arrays[name] for name in ("weight", "scales", "biases")})
        return layer if "in_features" not in arrays else PaddedLinear(layer, padded - self._in_features(arrays))

    def mlx_parameters(self, arrays: dict[str, mx.array]) -> dict[str, int | str] | None:
        """What MLX's config.json says of this matrix; None where rows were padded."""
        return None if "in_features" in arrays else {"group_size": self._group(arrays), "bits": self.bits}

    def _in_features(self, arrays: dict[str, mx.array]) -> int:
        return int(np.array(arrays["in_features"])[0])

    def _group(self, arrays: dict[str, mx.array]) -> int:
        return arrays["weight"].shape[1] * 32 // self.bits // arrays["scales"].shape[1]


class PaddedLinear(nn.Module):
    """A quantized layer whose rows are longer than its input: zeros are appended to the input."""

    def __init__(self, layer: nn.QuantizedLinear, padding: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layer = layer
        self.padding = padding

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        product: mx.array = self.layer(mx.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, self.padding)]))
        return product
