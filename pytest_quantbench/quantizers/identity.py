"""The identity codec: the reference (`bf16`) is one more row, stored, decoded and measured by the same code."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import mlx.core as mx
import mlx.nn as nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Keeps a matrix in the type in which the source stores it: BF16 for the catalogue's models."""

    name: ClassVar[str] = "identity"
    version: ClassVar[int] = 1
    calibration: ClassVar[Literal["none", "hessian"]] = "none"

    def encode(self, weight: mx.array, statistics: mx.array | None, seed: int) -> dict[str, mx.array]:
        """(out, in) weight → itself."""
        return {"weight": weight}

    def decode(self, arrays: dict[str, mx.array]) -> mx.array:
        """The stored weight, (out, in), in its own type."""
        return arrays["weight"]

    def linear(self, arrays: dict[str, mx.array]) -> nn.Module:
        """A plain dense layer."""
        out_features, in_features = arrays["weight"].shape
        layer = nn.Linear(in_features, out_features, bias=False)
        layer.weight = arrays["weight"]
        return layer
