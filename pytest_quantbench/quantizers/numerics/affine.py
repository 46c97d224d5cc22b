"""Matrices as MLX's affine kernels store them: codes of a row in groups, each with a 16-bit scale and bias.

Shared by every method whose result is such a matrix; how codes, scales and biases are found is the method's own.
Decoded weight = code × scale + bias. Storage: bits + 32 / group per weight. A row length that no group divides gets a
smaller group or is padded on the right; the padding is stored and therefore counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.layer import Affine, Layer, row_length
from pytest_quantbench.quantizers.numerics import affine_rounding
from pytest_quantbench.quantizers.numerics.bit_packing import Codes, pack, unpack
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer

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


def pad(weight: Array, padded: int) -> Array:
    """(out, in) → (out, padded): the last column is repeated, which leaves every group's range as it was."""
    missing = padded - weight.shape[1]
    return np.pad(weight, ((0, 0), (0, missing)), mode="edge") if missing else weight


def store(codes: Codes, scales: Array, biases: Array, bits: int, in_features: int) -> Arrays:
    """(out, padded) codes and (out, groups) 16-bit scales and biases → the arrays of one matrix.

    `weight` (out, padded × bits / 32) uint32, `scales`, `biases`, and `in_features` (1,) int32 where rows are padded.
    """
    arrays = {"weight": pack(codes, bits).view(np.uint32), "scales": scales, "biases": biases}
    padded = codes.shape[1] != in_features
    return {**arrays, "in_features": np.array([in_features], np.int32)} if padded else arrays


def codes_of(arrays: Mapping[str, Array], bits: int) -> Codes:
    """The (out, padded) codes of a stored matrix."""
    return unpack(arrays["weight"].view(np.uint8), bits)


def decode(arrays: Mapping[str, Array], bits: int) -> NDArray[np.float32]:
    """The dense (out, in) weight in float32: code × scale + bias is not rounded to 16 bits, nor do kernels."""
    packed = arrays["weight"].view(np.uint8)
    dense = affine_rounding.decoded(packed, arrays["scales"], arrays["biases"], bits)
    return dense[:, : row_length(arrays, dense.shape[1])]


def grid(arrays: Mapping[str, Array], bits: int) -> Affine:
    """The stored matrix as a part of a layer."""
    stored = arrays["weight"].shape[1] * 32 // bits
    return Affine(
        codes=arrays["weight"],
        scales=arrays["scales"],
        biases=arrays["biases"],
        bits=bits,
        in_features=row_length(arrays, stored),
    )


def group_of(arrays: Mapping[str, Array], bits: int) -> int:
    """How many weights of a row share a scale in a stored matrix."""
    return grid(arrays, bits).group


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineStored(Quantizer):
    """What the methods share whose result is such a matrix and nothing beside it."""

    bits: int
    group_size: int = 64

    name: ClassVar[str]
    version: ClassVar[int]
    calibration: ClassVar[Calibration]

    def __post_init__(self) -> None:
        check(self.name, self.bits, self.group_size)

    def note(self, weight_shape: tuple[int, int], arrays: Mapping[str, Array]) -> str:
        """What was done otherwise for an (out, in) matrix, such as padding; empty if nothing."""
        return note(weight_shape[1], self.group_size, self.bits)

    def decode(self, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """The dense (out, in) weight in float32."""
        return decode(arrays, self.bits)

    def layer(self, arrays: Mapping[str, Array]) -> Layer:
        """The grid alone: MLX's own kernels take it."""
        return Layer(grid=grid(arrays, self.bits))


def halved_scales(scales: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """(out, groups) scales → float16, and (out, 1) powers of two for rows that leave the range in which float16 is
    precise; 0 for rows that need none.

    Up to 256 none is needed: offsets of up to 128 scales still fit float16.
    """
    sizes = np.abs(scales)
    largest = sizes.max(axis=1, keepdims=True)
    outside = (largest >= 2.0**8) | np.any((sizes > 0) & (sizes < 2.0**-14), axis=1, keepdims=True)
    exponents = np.where(outside, np.clip(np.frexp(largest)[1] - 8, -120, 120), 0).astype(np.int8)
    return np.ldexp(scales, -exponents.astype(np.int32)).astype(np.float16), exponents


def whole_scales(halves: NDArray[np.float16], exponents: NDArray[np.int8]) -> NDArray[np.float32]:
    """The scales that were split, as float16 keeps them."""
    return np.ldexp(halves.astype(np.float32), exponents.astype(np.int32))
