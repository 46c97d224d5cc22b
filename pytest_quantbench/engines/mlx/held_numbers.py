"""Keys and values as a cache gives them back: rounded in numpy, in the rotated basis where the method has one.

Rotated keys are turned back, so that queries need not be turned: the scores are the same.
"""

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.batches import Ids
from pytest_quantbench.engines.held_caches import rounded
from pytest_quantbench.engines.mlx.host_products import view
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, Part
from pytest_quantbench.quantizers.numerics import hadamard

Numbers = NDArray[np.float32]


def is_lasting(form: CacheForm, part: Part) -> bool:
    """Whether every query sees a token in the same form, which it has from the beginning and by itself."""
    stages = form.stages(part)
    if len(stages) != 1 or stages[0].age or stages[0].chunk != 1:
        return False
    return stages[0].rounding is None or stages[0].rounding.token_group == 1


def lasting(form: CacheForm, part: Part, numbers: mx.array, positions: Ids) -> mx.array:
    """(rows, heads, tokens, channels) as they are held for good, where they stand at `positions` (rows, tokens)."""
    found = stored(form, part, 0, view(numbers.astype(mx.float32)), positions)
    if form.sinks:
        found = np.where(positions[:, None, :, None] < form.sinks, view(numbers.astype(mx.float32)), found)
    return mx.array(found).astype(numbers.dtype)


def stored(
    form: CacheForm, part: Part, stage: int, numbers: Numbers, positions: Ids, queries: Floats | None = None
) -> Numbers:
    """(rows, heads, tokens, channels) as a stage of the form gives them back; stage −1: as computed."""
    rounding = form.stages(part)[stage].rounding if stage >= 0 else None
    if rounding is None:
        return numbers
    if part == "values" or not form.rotates:
        return rounded(rounding, numbers, positions, queries)
    turned_queries = None if queries is None else turned(queries)
    return turned(rounded(rounding, turned(numbers), positions, turned_queries), inverse=True)


def turned(numbers: Numbers, inverse: bool = False) -> Numbers:
    """(…, channels) multiplied by an orthonormal Hadamard matrix, or by its inverse."""
    columns = numbers.reshape(-1, numbers.shape[-1]).T
    return np.ascontiguousarray(hadamard.transform(columns, inverse).T).reshape(numbers.shape)
