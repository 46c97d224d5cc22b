"""Whether what an engine builds of a described layer computes what the decoded matrix computes.

`decode` is the definition. Every engine that is installed is held to it, with its layers (what T1 times) and with its
own decoding of the layer's matrix (what a walk on an accelerator uses).
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers import Array, Layer, Quantizer
from pytest_quantbench.workbench.trials import decode, demand, encode, gaussian

Matrix = NDArray[np.float32]
SHAPES = ((64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33))
TOLERANCE = 1e-4  # of the largest output or weight, in float32
# An engine's package, which has to be installed, and its module that builds layers: `outputs` and `matrix`.
BUILDERS: Mapping[str, tuple[str, str]] = {"mlx": ("mlx", "pytest_quantbench.engines.mlx.layers")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """What an engine makes of a layer: its outputs (…, out) for inputs (…, in), and its (out, in) matrix, or None."""

    engine: str
    outputs: Callable[[Layer, Callable[[], Array], Matrix], Matrix]
    matrix: Callable[[Layer], Matrix | None]


def installed() -> Iterator[Builder]:
    """Of every engine that this environment has."""
    for engine, (package, name) in BUILDERS.items():
        if find_spec(package) is not None:
            module = importlib.import_module(name)
            yield Builder(engine=engine, outputs=module.outputs, matrix=module.matrix)


def layer_agrees(quantizer: Quantizer) -> None:
    """The described layer, where there is one, computes what the decoded matrix computes, on every engine."""
    for shape in SHAPES:
        arrays = encode(quantizer, gaussian(shape))
        layer = quantizer.layer(dict(arrays))
        if layer is None:
            continue
        demand(isinstance(layer, Layer), f"layer gives a {type(layer).__name__}, not a Layer or None")
        weight = decode(quantizer, arrays)
        inputs = np.random.default_rng(1).standard_normal((4, shape[1]), np.float32)
        given = inputs if layer.input_rule is None else layer.input_rule.rounded(inputs)
        for builder in installed():
            found = builder.outputs(layer, lambda arrays=arrays: quantizer.decode(dict(arrays)), inputs)  # type: ignore[misc]
            _demand_close(f"the layer of a {shape} matrix", builder.engine, found, given @ weight.T)
            if (matrix := builder.matrix(layer)) is not None:
                _demand_close(f"the layer's own {shape} matrix", builder.engine, matrix, weight)


def _demand_close(what: str, engine: str, found: Matrix, expected: Matrix) -> None:
    demand(found.shape == expected.shape, f"{what} on {engine} has shape {found.shape}, not {expected.shape}")
    error = np.abs(found - expected).max()
    limit = TOLERANCE * np.abs(expected).max() + 1e-7
    demand(error <= limit, f"{what} on {engine} differs from decode by {error:.2e}, more than {limit:.2e}")
