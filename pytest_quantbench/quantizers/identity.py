"""The identity codec: the reference (`bf16`) is one more row, stored, decoded and measured by the same code."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Quantizer, Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Quantizer):
    """Keeps a matrix in the type in which the source stores it: BF16 for the catalogue's models."""

    name: ClassVar[str] = "identity"
    version: ClassVar[int] = 1
    calibration: ClassVar[Calibration] = "none"

    def encode(self, weight: Array, statistics: Statistics | None, seed: int) -> Arrays:
        """(out, in) weight → itself."""
        return {"weight": weight}

    def decode(self, arrays: Mapping[str, Array]) -> Array:
        """The stored weight, (out, in), in its own type."""
        return arrays["weight"]
