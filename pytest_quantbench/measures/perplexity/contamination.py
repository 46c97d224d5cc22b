"""Whether two texts share a passage: a model must not be judged on text that a method was fitted to."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def shared_run(first: Sequence[int], second: Sequence[int], length: int) -> bool:
    """Whether two token sequences have `length` tokens in a row in common. Compares 64-bit hashes of the runs."""
    keys = np.random.default_rng(0).integers(1, 2**64, length, dtype=np.uint64)
    return bool(np.isin(_run_hashes(first, keys), _run_hashes(second, keys)).any())


def _run_hashes(tokens: Sequence[int], keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One hash for every run of len(keys) tokens: the sum of token × key, modulo 2^64."""
    ids = np.asarray(tokens, np.uint64) + np.uint64(1)
    count = max(0, len(ids) - len(keys) + 1)
    hashes = np.zeros(count, np.uint64)
    for place, key in enumerate(keys):
        hashes += ids[place : place + count] * key
    return hashes
