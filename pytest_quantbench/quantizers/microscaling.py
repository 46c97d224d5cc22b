"""MLX's floating-point formats: 4 or 8 bits per weight, and an 8-bit scale for every 32 or 16 of them.

Source: OCP Microscaling Formats (MX) specification 1.0 for mxfp4 (E2M1) and mxfp8 (E4M3), both with a power of two
(E8M0) for every 32 weights; NVIDIA's NVFP4 for E2M1 with an E4M3 scale for every 16. Rounding is `mx.quantize`'s own:
round to nearest, no data, one pass. These modes are what hardware multiplies directly. Floating-point levels lie
denser near zero, which suits heavy tails: nvfp4 is a dB above 4-bit rounding in groups of 64 on Student-t weights,
and mxfp4, whose scale can only be a power of two, a dB below.

Storage: 4.25 (mxfp4), 8.25 (mxfp8) and 4.5 (nvfp4) bits per weight. An E4M3 scale reaches only from 2^-9 to 448, and
the weights of a language model lie below: unscaled nvfp4 rounds weights of 0.001 to zero. So nvfp4 has one float32
scale more per matrix, its largest weight over the largest number of the format, 6 × 448; that makes the result the
same for every unit of the weights. MLX's matrix product does not take that number, so the layer multiplies by it.

Where we differ: rows that no group divides are padded with zeros, which is stored and counted. MLX opens the mx formats
as they are; nvfp4 with its scale it does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.quantizers import Statistics, check_width
from pytest_quantbench.quantizers.numerics import affine

# MLX 0.32.4 turns weights whose power of two falls out of E8M0 into infinities. What lies outside this range saturates.
SMALLEST, LARGEST = 2.0**-110, 2.0**127
BLOCK = 1 << 21  # weights rounded at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Microscaled:
    """What the formats have in common; `width` bits are a code's only choice."""

    bits: int

    name: ClassVar[Literal["mxfp4", "mxfp8", "nvfp4"]]
    width: ClassVar[int]
    group: ClassVar[int]
    version: ClassVar[int] = 1
    calibration: ClassVar[Literal["none", "optional", "hessian"]] = "none"

    def __post_init__(self) -> None:
        check_width(self.name, self.bits, self.width)

    def _padding(self, weight_shape: tuple[int, ...]) -> int:
        """How much longer rows must be: whole groups, and a matrix of whole pairs of 16, for MLX takes 32 at a time."""
        return -weight_shape[1] % (32 if weight_shape[0] % 2 else self.group)

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, mx.array]) -> str:
        """What was done otherwise for an (out, in) matrix, such as padding; empty if nothing."""
        padding = self._padding(weight_shape)
        return f"rows padded from {weight_shape[1]} to {weight_shape[1] + padding}" if padding else ""

    def encode(self, weight: mx.array, statistics: Statistics | None, seed: int) -> dict[str, mx.array]:
        """(out, in) float → `weight` (out, in × bits / 32) uint32 and `scales` (out, in / group) uint8.

        nvfp4 has `global_scale` (1,) float32; a padded matrix has `in_features` (1,) int32, its row length before.
        """
        in_features = weight.shape[1]
        dense = mx.clip(weight.astype(mx.float32), -LARGEST, LARGEST)
        dense = mx.where(mx.abs(dense) < SMALLEST, 0.0, dense)
        dense = mx.pad(dense, [(0, 0), (0, self._padding(weight.shape))])
        arrays = {} if dense.shape[1] == in_features else {"in_features": mx.array([in_features], mx.int32)}
        if self.name == "nvfp4":
            arrays["global_scale"] = _global_scale(dense)
            dense = dense / arrays["global_scale"]
        codes, scales = self._rounded(dense)
        return {"weight": codes, "scales": scales, **arrays}

    def _rounded(self, dense: mx.array) -> tuple[mx.array, mx.array]:
        """Codes and scales, some rows at a time: MLX's 4-bit rounding takes 17 times the memory of its input."""
        rows = 2 * max(1, BLOCK // (2 * dense.shape[1]))
        parts = []
        for first in range(0, len(dense), rows):
            part = mx.quantize(dense[first : first + rows], group_size=self.group, bits=self.width, mode=self.name)
            mx.eval(*part)
            parts.append(part)
        codes, scales = (mx.concatenate([part[index] for part in parts]) for index in (0, 1))
        return codes, scales

    def decode(self, arrays: dict[str, mx.array]) -> mx.array:
        """The dense (out, in) weight in float32."""
        dense = mx.dequantize(
            arrays["weight"],
            arrays["scales"],
            group_size=self.group,
            bits=self.width,
            mode=self.name,
            dtype=mx.float32,
        )
        if "global_scale" in arrays:
            dense = dense * arrays["global_scale"]
        return dense if "in_features" not in arrays else dense[:, : int(np.array(arrays["in_features"])[0])]

    def linear(self, arrays: dict[str, mx.array]) -> nn.Module:
        """MLX's own quantized layer, with the input padded and the output scaled where the matrix was."""
        layer: nn.Module = nn.QuantizedLinear(32, 1, False, self.group, self.width, self.name)
        layer.update({name: arrays[name] for name in ("weight", "scales")})
        if "in_features" in arrays:
            padded = arrays["scales"].shape[1] * self.group
            layer = affine.PaddedLinear(layer, padded - int(np.array(arrays["in_features"])[0]))
        return layer if "global_scale" not in arrays else ScaledLinear(layer, arrays["global_scale"])

    def mlx_parameters(self, arrays: dict[str, mx.array]) -> dict[str, int | str] | None:
        """What MLX's config.json says of this matrix; None where rows were padded or there is a global scale."""
        if "in_features" in arrays or "global_scale" in arrays:
            return None
        return {"group_size": self.group, "bits": self.width, "mode": self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mxfp4(_Microscaled):
    """E2M1 codes, a power of two for every 32."""

    bits: int = 4

    name = "mxfp4"
    width = 4
    group = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Mxfp8(_Microscaled):
    """E4M3 codes, a power of two for every 32."""

    bits: int = 8

    name = "mxfp8"
    width = 8
    group = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvfp4(_Microscaled):
    """E2M1 codes, an E4M3 scale for every 16, a float32 scale for the matrix."""

    bits: int = 4

    name = "nvfp4"
    width = 4
    group = 16


def _global_scale(dense: mx.array) -> mx.array:
    """(1,) float32: by it the largest weight is divided to the largest number of E2M1 times E4M3; 1 without weights."""
    largest = mx.abs(dense).max().reshape(1)
    return mx.where(largest > 0, largest / (6 * 448), 1.0)


class ScaledLinear(nn.Module):
    """A layer whose outputs are all multiplied by one number."""

    def __init__(self, layer: nn.Module, scale: mx.array) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layer = layer
        self.scale = scale

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        product: mx.array = self.layer(x)
        return product * self.scale
