"""Matrices of values that real models have here and there, and that a method may stumble over."""

import itertools
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.quantizers import Quantizer
from pytest_quantbench.workbench.trials import decode, demand, encode, floats, gaussian

Values = NDArray[np.float32]
SHAPES = ((1, 1), (2, 64), (64, 2), (3, 172), (17, 33), (1, 300))


def hard_matrices_stay_finite(quantizer: Quantizer) -> None:
    """A huge outlier, subnormal values, one value throughout: finite results, and no larger than what went in."""
    outlier = floats(gaussian((16, 64)))
    outlier[3, 5] = 1e4
    hard = {
        "a huge outlier": outlier,
        "subnormal values": np.full((16, 64), 1e-39, np.float32),
        "one value throughout": np.full((16, 64), 0.75, np.float32),
        "one negative value throughout": np.full((16, 64), -3.0, np.float32),
    }
    for name, matrix in hard.items():
        decoded = decode(quantizer, encode(quantizer, matrix))
        demand(np.isfinite(decoded).all(), f"a matrix with {name} comes back with NaN or infinite values")
        limit = 3 * np.abs(matrix).max()
        demand(np.abs(decoded).max() <= limit, f"{name}: values up to {np.abs(decoded).max():.2e} come back")


def odd_matrices_come_back(quantizer: Quantizer) -> None:
    """Constant, sparse, tiny, huge and repeated values in odd shapes: the right shape, finite, no more error than
    the matrix has itself.
    """
    for seed, (kind, shape) in enumerate(itertools.product(ODD_VALUES, SHAPES)):
        if (seed + seed // len(SHAPES)) % 3:  # each kind in two shapes, each shape with a third of the kinds
            continue
        given = ODD_VALUES[kind](np.random.default_rng(seed), shape).astype(np.float32).astype(ml_dtypes.bfloat16)
        matrix, decoded = floats(given), decode(quantizer, encode(quantizer, given))
        told = f"a matrix {shape} of {kind}"
        demand(decoded.shape == shape, f"{told} comes back as {decoded.shape}")
        demand(np.isfinite(decoded).all(), f"{told} comes back with NaN or infinite values")
        lost, whole = (float(np.linalg.norm(each.astype(np.float64))) for each in (decoded - matrix, matrix))
        demand(lost <= 1.001 * whole, f"{told} comes back with {lost / (whole or 1):.3g} times its own norm as error")


def _draw(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    return (0.02 * rng.standard_normal(shape)).astype(np.float32)


def _outliers(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    matrix = _draw(rng, shape)
    matrix[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = 5.0
    return matrix


def _uneven(rng: np.random.Generator, shape: tuple[int, int]) -> Values:
    sizes: Values = np.exp(3 * rng.standard_normal((shape[0], 1))).astype(np.float32)
    return _draw(rng, shape) * sizes


ODD_VALUES: Mapping[str, Callable[[np.random.Generator, tuple[int, int]], Values]] = {
    "one value in each row": lambda rng, shape: np.repeat(_draw(rng, (shape[0], 1)), shape[1], axis=1),
    "one value in each column": lambda rng, shape: np.repeat(_draw(rng, (1, shape[1])), shape[0], axis=0),
    "rows of zeros": lambda rng, shape: _draw(rng, shape) * (rng.random((shape[0], 1)) < 0.5),
    "zeros but for a tenth": lambda rng, shape: _draw(rng, shape) * (rng.random(shape) < 0.1),
    "two values": lambda rng, shape: np.where(rng.random(shape) < 0.5, 0.03, -0.01).astype(np.float32),
    "positive values": lambda rng, shape: np.abs(_draw(rng, shape)) + np.float32(0.1),
    "tiny values": lambda rng, shape: 1e-18 * _draw(rng, shape),
    "subnormal values": lambda rng, shape: np.full(shape, 1e-39, np.float32),
    "large values": lambda rng, shape: 1e4 * _draw(rng, shape),
    "values with an outlier in each row": _outliers,
    "rows that repeat": lambda rng, shape: np.repeat(_draw(rng, (1, shape[1])), shape[0], axis=0),
    "rows of very different size": _uneven,
}
