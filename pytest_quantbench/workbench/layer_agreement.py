"""Whether what an engine builds of a described layer computes what the decoded matrix computes.

`decode` is the definition. Every engine that is installed is held to it, with its layers (what T1 times) and with its
own decoding of the layer's matrix (what a walk on an accelerator uses).
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench import engines
from pytest_quantbench.quantizers import Layer, Quantizer
from pytest_quantbench.workbench.trials import decode, demand, encode, gaussian

Matrix = NDArray[np.float32]
SHAPES = ((64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33))
TOLERANCE = 1e-4  # of the largest output or weight, in float32


def layer_agrees(quantizer: Quantizer) -> None:
    """The described layer, where there is one, computes what the decoded matrix computes, on every engine."""
    for engine in engines.installed():
        agrees_on(engine, quantizer)


def agrees_on(engine: engines.Engine, quantizer: Quantizer) -> None:
    """The same on one engine."""
    for shape in SHAPES:
        arrays = encode(quantizer, gaussian(shape))
        layer = quantizer.layer(dict(arrays))
        if layer is None:
            continue
        demand(isinstance(layer, Layer), f"layer gives a {type(layer).__name__}, not a Layer or None")
        weight = decode(quantizer, arrays)
        inputs = np.random.default_rng(1).standard_normal((4, shape[1]), np.float32)
        announced = layer.input_rule is None or quantizer.has_input_rule
        demand(announced, f"the layer has an input rule, {layer.input_rule}, but has_input_rule is False")
        given = inputs if layer.input_rule is None else layer.input_rule.rounded(inputs)
        found = engine.outputs(layer, partial(quantizer.decode, dict(arrays)), inputs)
        _demand_close(f"the layer of a {shape} matrix on {engine.name}", found, given @ weight.T)
        if (matrix := engine.matrix(layer)) is not None:
            _demand_close(f"the {shape} matrix of a layer on {engine.name}", matrix, weight)


def _demand_close(what: str, found: Matrix, expected: Matrix) -> None:
    demand(found.shape == expected.shape, f"{what} has shape {found.shape}, not {expected.shape}")
    error = np.abs(found - expected).max()
    limit = TOLERANCE * np.abs(expected).max() + 1e-7
    demand(error <= limit, f"{what} differs from decode by {error:.2e}, more than {limit:.2e}")
