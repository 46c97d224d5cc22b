"""One quantizer on one matrix: what the checks of `conformance` are made of."""

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.checkpoints.tensor_file import STORABLE
from pytest_quantbench.errors import ConformanceError
from pytest_quantbench.quantizers import Array, Arrays, Quantizer, Statistics
from pytest_quantbench.workbench.matrices import correlated_inputs, quick_inputs

FLOATING = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16))
SIGMA = 0.02  # standard deviation of the weights
MAIN, TWICE = (256, 256), (512, 256)
WIDE, TALL, LARGE = (64, 4096), (4096, 64), (3072, 1536)
BASIS_UP_TO = 1024  # inputs: a random basis of more takes seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A Gaussian matrix, what it was stored as, and what came back. (out, in) float32."""

    original: NDArray[np.float32]
    decoded: NDArray[np.float32]
    stored_bytes: int
    seconds: float  # of encoding

    @property
    def bits_per_weight(self) -> float:
        """Counted from the stored arrays."""
        return 8 * self.stored_bytes / self.original.size


def demand(condition: object, otherwise: str) -> None:
    """Raise ConformanceError with this sentence unless the condition holds."""
    if not condition:
        raise ConformanceError(otherwise)


def gaussian(shape: tuple[int, int], seed: int = 0) -> Array:
    """(out, in) BF16 weights of standard deviation 0.02."""
    drawn = SIGMA * np.random.default_rng(seed).standard_normal(shape)
    return drawn.astype(np.float32).astype(ml_dtypes.bfloat16)


@lru_cache(maxsize=16)
def inputs(width: int) -> Statistics:
    """What the layers of a given width see."""
    return correlated_inputs(width) if width <= BASIS_UP_TO else quick_inputs(width)


def statistics(quantizer: Quantizer, width: int) -> Statistics | None:
    """Of correlated inputs, for a method that takes them."""
    return None if quantizer.calibration == "none" else inputs(width)


def encode(quantizer: Quantizer, weight: Array, seed: int = 0) -> Arrays:
    """The arrays of a matrix. Raises ConformanceError for what cannot be stored under a name."""
    arrays = quantizer.encode(weight, statistics(quantizer, weight.shape[1]), seed)
    demand(isinstance(arrays, dict) and arrays, f"encode gives a {type(arrays).__name__}, not a dict of arrays")
    for name, array in arrays.items():
        demand(isinstance(name, str) and "." not in name, f"the array name {name!r} has a dot or is no text")
        demand(isinstance(array, np.ndarray), f"{name} is a {type(array).__name__}, not a numpy array")
        demand(array.dtype in STORABLE, f"{name} is an array of {array.dtype}, which a safetensors file cannot hold")
    return arrays


def decode(quantizer: Quantizer, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
    """The dense matrix. Raises ConformanceError for what is none."""
    decoded = quantizer.decode(dict(arrays))
    demand(isinstance(decoded, np.ndarray), f"decode gives a {type(decoded).__name__}, not a numpy array")
    demand(decoded.dtype in FLOATING, f"decode gives {decoded.dtype}, not a floating type")
    return floats(decoded)


def floats(array: Array) -> NDArray[np.float32]:
    """A copy in float32."""
    return array.astype(np.float32)


def trial(quantizer: Quantizer, shape: tuple[int, int]) -> Trial:
    """A Gaussian matrix of this shape, encoded and decoded once for all checks."""
    return _tried(cast(Hashable, quantizer), shape)  # a frozen dataclass is


@lru_cache(maxsize=16)
def _tried(hashable: Hashable, shape: tuple[int, int]) -> Trial:
    quantizer = cast(Quantizer, hashable)
    weight = gaussian(shape)
    _ = statistics(quantizer, shape[1])
    began = time.perf_counter()
    arrays = encode(quantizer, weight)
    seconds = time.perf_counter() - began
    decoded = decode(quantizer, arrays)
    demand(decoded.shape == shape, f"a matrix {shape} comes back as {decoded.shape}")
    stored = sum(each.nbytes for each in arrays.values())
    return Trial(original=floats(weight), decoded=decoded, stored_bytes=stored, seconds=seconds)
