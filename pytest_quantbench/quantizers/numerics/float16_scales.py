"""Scales in float16, with a power of two for rows that leave the range in which float16 is precise."""

import numpy as np
from numpy.typing import NDArray

Exponents = NDArray[np.int8]


def split(scales: NDArray[np.float32]) -> tuple[NDArray[np.float16], Exponents]:
    """(out, groups) scales → float16, and (out, 1) powers of two; 0 for rows that need none.

    Up to 256 none is needed: offsets of up to 128 scales still fit float16.
    """
    sizes = np.abs(scales)
    largest = sizes.max(axis=1, keepdims=True)
    outside = (largest >= 2.0**8) | np.any((sizes > 0) & (sizes < 2.0**-14), axis=1, keepdims=True)
    exponents = np.where(outside, np.clip(np.frexp(largest)[1] - 8, -120, 120), 0).astype(np.int8)
    return np.ldexp(scales, -exponents.astype(np.int32)).astype(np.float16), exponents


def join(halves: NDArray[np.float16], exponents: Exponents) -> NDArray[np.float32]:
    """The scales that were split, as float16 keeps them."""
    return np.ldexp(halves.astype(np.float32), exponents.astype(np.int32))
