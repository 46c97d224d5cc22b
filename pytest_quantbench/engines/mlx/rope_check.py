"""How the modules of a built model of mlx-lm's turn queries and keys, held to what config.json says."""

from collections.abc import Mapping
from typing import Any

import mlx.nn as nn
import numpy as np

from pytest_quantbench.engines import rope_check
from pytest_quantbench.engines.rope_check import Turned, Turning, unscaled


def check_ropes(model: nn.Module, table: Mapping[str, Any], layer_types: list[str], layers: str) -> bool:
    """Raise ModelError where a module of the model turns otherwise than the config's table says.

    `layer_types`: of each decoder layer, [] where unknown; `layers`: the path of their list. Returns whether there was
    anything to compare: a model may do it in a way of its own.
    """
    found = (
        Turned(path=path, layer_type=_layer_type(path, layers, layer_types), turning=turning)
        for path, module in model.named_modules()
        if (turning := turning_of(module)) is not None
    )
    return rope_check.check_ropes(found, table, mixed=bool(layer_types), whose="mlx-lm's")


def _layer_type(path: str, layers: str, layer_types: list[str]) -> str | None:
    """That of the layer in which a module lies, where it is known."""
    number = path.removeprefix(layers + ".").partition(".")[0]
    return layer_types[int(number)] if number.isdecimal() and int(number) < len(layer_types) else None


def turning_of(module: nn.Module) -> Turning | None:
    """How an mlx or mlx-lm module turns; None for one that does not. A dynamic one as it does up to its own length."""
    held: dict[str, Any] = {**vars(module), **module}
    if "_freqs" in held:  # wavelengths over 2 π, as mx.fast.rope takes them
        return Turning(
            frequencies=1 / np.array(held["_freqs"], np.float64), scale=held.get("_scale", held.get("mscale", 1))
        )
    if "base" not in held or "dims" not in held or not isinstance(held["base"], int | float):
        return None
    return Turning(frequencies=unscaled(held["base"], held["dims"]) * float(held.get("scale", 1.0)))
