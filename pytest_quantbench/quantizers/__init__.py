"""Methods that encode a weight matrix in few bits, one file each, and the protocol that they keep to.

A quantizer is a frozen dataclass whose fields are its parameters. It is arithmetic on numpy arrays: how its result is
run is described by a `Layer`, which an engine builds. Methods never import each other; what they share is `numerics`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_quantbench.quantizers.family import field_names
from pytest_quantbench.quantizers.protocol import Array, Arrays, Calibration, Codec, Quantizer, Statistics, check_width
from pytest_quantbench.quantizers.registry import GROUP, REQUIRED, check, get, make, names, recipe_of

if TYPE_CHECKING:
    from pytest_quantbench.quantizers.layer import (
        Affine,
        Fixed,
        InputRule,
        Layer,
        LowRank,
        Microscaled,
        PerToken,
        Sparse,
    )

__all__ = [
    "GROUP",
    "REQUIRED",
    "Affine",
    "Array",
    "Arrays",
    "Calibration",
    "Codec",
    "Fixed",
    "InputRule",
    "Layer",
    "LowRank",
    "Microscaled",
    "PerToken",
    "Quantizer",
    "Sparse",
    "Statistics",
    "check",
    "check_width",
    "field_names",
    "get",
    "make",
    "names",
    "recipe_of",
]
OF_LAYERS = ("Affine", "Fixed", "InputRule", "Layer", "LowRank", "Microscaled", "PerToken", "Sparse")


def __getattr__(name: str) -> Any:
    """What describes layers is imported when asked for, as it needs numpy: names are looked up in every pytest run."""
    if name not in OF_LAYERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.layer"), name)
