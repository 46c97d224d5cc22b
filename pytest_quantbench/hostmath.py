"""Dense layers and attention whose products run in numpy: what MLX's Linux CPU build needs, and nothing else does.

That build is linked against a reference BLAS (7 GFLOP/s where numpy has 230 on the same two cores). An evaluated
float32 MLX array is a numpy view at no cost, so only the product's result is copied. Used by the layer walk of the
quality measures and of calibration, never by T1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray


def view(array: mx.array) -> NDArray[np.float32]:
    """A float32 MLX array as numpy, evaluated, without a copy."""
    return np.asarray(array)


def _product(x: mx.array, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = view(x).reshape(-1, x.shape[-1])
    with np.errstate(over="ignore", invalid="ignore"):  # a collapsed model overflows; the measures look for it
        return (rows @ weight.T).reshape(*x.shape[:-1], len(weight))


class HostLinear(nn.Module):
    """(…, in) → (…, out) in float32; `weight` is (out, in), `bias` (out,) or None."""

    def __init__(self, weight: mx.array, bias: mx.array | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host_weight = view(weight)
        self.host_bias = None if bias is None else view(bias)

    def __call__(self, x: mx.array) -> mx.array:
        product = _product(x, self.host_weight)
        if self.host_bias is not None:
            product += self.host_bias
        return mx.array(product)


class HostEmbedding(nn.Module):
    """Token rows of a (vocabulary, hidden) float32 matrix, and the same matrix as an output head."""

    def __init__(self, weight: mx.array) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host_weight = view(weight)

    def __call__(self, tokens: mx.array) -> mx.array:
        return mx.array(self.host_weight[np.asarray(tokens)])

    def as_linear(self, x: mx.array) -> mx.array:
        """(…, hidden) → (…, vocabulary)."""
        return mx.array(_product(x, self.host_weight))


def on_host(leaf: nn.Module) -> nn.Module | None:
    """The numpy twin of a filled dense layer or embedding; None for every other module."""
    if type(leaf) is nn.Linear:
        return HostLinear(leaf.weight, leaf.get("bias"))
    return HostEmbedding(leaf.weight) if type(leaf) is nn.Embedding else None


QUERIES = 256  # of one head taken together: their scores stay in the cache, and a causal mask skips what lies ahead
STACKED = 2**22  # scores, 16 MB: up to here all sequences and heads are taken together
Scores = NDArray[np.float32]


@contextmanager
def host_attention() -> Iterator[None]:
    """MLX's fused attention, which mlx-lm's models all call, is `attention` meanwhile."""
    fused = mx.fast.scaled_dot_product_attention

    def dispatch(q: mx.array, k: mx.array, v: mx.array, *, sinks: mx.array | None = None, **rest: Any) -> mx.array:
        return attention(q, k, v, **rest) if sinks is None else fused(q, k, v, sinks=sinks, **rest)

    mx.fast.scaled_dot_product_attention = dispatch
    try:
        yield
    finally:
        mx.fast.scaled_dot_product_attention = fused


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: mx.array | str | None = None
) -> mx.array:
    """softmax(scale · Q Kᵀ + mask) V, as `mx.fast.scaled_dot_product_attention` defines it, in float32.

    `queries` (batch, heads, L, d), `keys` and `values` (batch, key heads, S, d). `mask`: None, "causal", True where a
    key is seen, or a number to add, that broadcasts to (batch, heads, L, S).
    """
    mx.eval(queries, keys, values)
    q, k, v = view(queries), view(keys), view(values)
    (batch, heads, length, _), (key_heads, seen) = q.shape, k.shape[1:3]
    shared = heads // key_heads  # query heads to a key head
    added = _added(mask, (batch, heads, length, seen))
    if batch * heads * length * seen <= STACKED:
        return mx.array(_stacked(q, k, v, scale, isinstance(mask, str), added))
    out = np.empty((*q.shape[:3], v.shape[-1]), np.float32)
    for first in range(0, length, QUERIES):
        rows = slice(first, min(first + QUERIES, length))
        last = seen - length + rows.stop if isinstance(mask, str) else seen  # later keys are hidden from these queries
        for item, head in np.ndindex(batch, key_heads):
            group = slice(head * shared, (head + 1) * shared)
            scores = q[item, group, rows].reshape(-1, q.shape[-1]) @ k[item, head, :last].T
            scores *= np.float32(scale)
            scores = scores.reshape(shared, -1, last)
            if isinstance(mask, str):
                _hide_later(scores)
            elif added is not None:
                scores += added[item, group, rows]
            _softmax(scores)
            out[item, group, rows] = (scores.reshape(-1, last) @ v[item, head, :last]).reshape(shared, -1, v.shape[-1])
    return mx.array(out)


def _stacked(q: Scores, k: Scores, v: Scores, scale: float, causal: bool, added: Scores | None) -> Scores:
    """All sequences and heads in one product each: many short ones would spend their time between small products."""
    (batch, heads, length, _), (key_heads, seen) = q.shape, k.shape[1:3]
    together = batch, key_heads, heads // key_heads * length
    scores: Scores = (q.reshape(*together, -1) @ k.swapaxes(2, 3)).reshape(batch, heads, length, seen)
    scores *= np.float32(scale)
    if causal:
        _hide_later(scores)
    elif added is not None:
        scores += added
    _softmax(scores)
    values: Scores = scores.reshape(*together, seen) @ v
    return values.reshape(batch, heads, length, -1)


def _added(mask: mx.array | str | None, shape: tuple[int, ...]) -> Scores | None:
    """What is added to the scores, broadcast to their shape."""
    if mask is None or isinstance(mask, str):
        return None
    numbers = mx.where(mask, 0.0, -mx.inf) if mask.dtype == mx.bool_ else mask.astype(mx.float32)
    return np.broadcast_to(view(numbers), shape)


def _hide_later(scores: Scores) -> None:
    """(…, queries, keys): the last query sees all keys, the one before all but the last, and so on."""
    count = scores.shape[-2]
    scores[..., scores.shape[-1] - count :] += np.triu(np.full((count, count), -np.inf, np.float32), 1)


def _softmax(scores: Scores) -> None:
    """In place, over the last axis."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
