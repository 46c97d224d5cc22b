"""Attention and activations in numpy, in the place of MLX's own while a layer of a walk runs on a CPU.

MLX's Linux build computes exponentials one at a time (20 ns for a sigmoid where numpy takes 3) and attention on one
thread. mlx-lm's models call both by name, so the names are made to mean these functions meanwhile. What is not listed
here runs in MLX as ever, and so does what is called with an argument that these do not take.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.mlx.host_products import view

QUERIES = 256  # of one head taken together: their scores stay in the cache, and a causal mask skips what lies ahead
STACKED = 2**22  # scores, 16 MB: up to here all sequences and heads are taken together
Scores = NDArray[np.float32]
Mask = NDArray[np.float32] | NDArray[np.bool_]
Activation = Callable[[mx.array], mx.array]
Kernel = tuple[ModuleType, str, Callable[..., mx.array]]  # where a model finds it, by which name, what it finds there


def host_kernels() -> list[Kernel]:
    """What is replaced, in the models of mlx-lm that have been imported so far."""
    from mlx_lm.models import activations

    loaded = [module for name, module in sys.modules.items() if name.startswith("mlx_lm.models.")]
    gated = [(module, "swiglu", swiglu) for module in loaded if getattr(module, "swiglu", None) is activations.swiglu]
    fused = mx.fast.scaled_dot_product_attention

    def dispatch(q: mx.array, k: mx.array, v: mx.array, *, sinks: mx.array | None = None, **rest: Any) -> mx.array:
        return attention(q, k, v, **rest) if sinks is None else fused(q, k, v, sinks=sinks, **rest)

    fast: Any = mx.fast
    plain = [(nn, "silu", _unless_compiled(silu, nn.silu)), (nn, "gelu_approx", _unless_compiled(gelu, nn.gelu_approx))]
    return [*plain, (fast, fused.__name__, dispatch), *gated]


def _unless_compiled(kernel: Activation, otherwise: Activation) -> Activation:
    """The kernel; within a function that MLX compiles there are no numbers yet, and MLX does it."""

    def choose(x: mx.array) -> mx.array:
        try:
            mx.eval(x)
        except ValueError:
            return otherwise(x)
        return kernel(x)

    return choose


@contextmanager
def replaced(kernels: Sequence[Kernel]) -> Iterator[None]:
    """The names mean these functions meanwhile."""
    before = [getattr(module, name) for module, name, _ in kernels]
    for module, name, kernel in kernels:
        setattr(module, name, kernel)
    try:
        yield
    finally:
        for (module, name, _), kernel in zip(kernels, before, strict=True):
            setattr(module, name, kernel)


def silu(x: mx.array) -> mx.array:
    """x · sigmoid(x), float32."""
    return mx.array(_silu(view(x)))


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """silu(gate) · x, float32."""
    product = _silu(view(gate))
    product *= view(x)
    return mx.array(product)


def _silu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # exp(-x) is infinite where the result is 0
        slope = np.exp(-x)
    slope += 1
    return np.divide(x, slope, out=slope)


def gelu(x: mx.array) -> mx.array:
    """x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), float32."""
    rows = view(x)
    bend = rows * rows
    bend *= np.float32(0.044715)
    bend += 1
    bend *= rows
    bend *= np.float32(np.sqrt(2 / np.pi))
    np.tanh(bend, out=bend)
    bend += 1
    bend *= rows
    bend *= np.float32(0.5)
    return mx.array(bend)


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
    hidden = shown(mask, (batch, heads, length, seen))
    if batch * heads * length * seen <= STACKED:
        return mx.array(_stacked(q, k, v, scale, isinstance(mask, str), hidden))
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
            elif hidden is not None:
                hide(scores, hidden[item, group, rows])
            _softmax(scores)
            out[item, group, rows] = (scores.reshape(-1, last) @ v[item, head, :last]).reshape(shared, -1, v.shape[-1])
    return mx.array(out)


def _stacked(q: Scores, k: Scores, v: Scores, scale: float, causal: bool, hidden: Mask | None) -> Scores:
    """All sequences and heads in one product each: many short ones would spend their time between small products."""
    (batch, heads, length, _), (key_heads, seen) = q.shape, k.shape[1:3]
    together = batch, key_heads, heads // key_heads * length
    scores: Scores = (q.reshape(*together, -1) @ k.swapaxes(2, 3)).reshape(batch, heads, length, seen)
    scores *= np.float32(scale)
    if causal:
        _hide_later(scores)
    elif hidden is not None:
        hide(scores, hidden)
    _softmax(scores)
    values: Scores = scores.reshape(*together, seen) @ v
    return values.reshape(batch, heads, length, -1)


def shown(mask: mx.array | str | None, shape: tuple[int, ...]) -> Mask | None:
    """A mask as it is, broadcast to the scores' shape: of a window over a long text it has a byte for each pair of
    tokens, and a copy in float32 would have four.
    """
    if mask is None or isinstance(mask, str):
        return None
    return np.broadcast_to(np.asarray(mask if mask.dtype == mx.bool_ else mask.astype(mx.float32)), shape)


def hide(scores: Scores, mask: Mask) -> None:
    """Add a mask of the same shape to scores; where it is boolean, −∞ to those that are not seen."""
    if mask.dtype == np.bool_:
        np.copyto(scores, -np.inf, where=np.logical_not(mask))
    else:
        scores += mask


def _hide_later(scores: Scores) -> None:
    """(…, queries, keys): the last query sees all keys, the one before all but the last, and so on."""
    count = scores.shape[-2]
    scores[..., scores.shape[-1] - count :] += np.triu(np.full((count, count), -np.inf, np.float32), 1)


def _softmax(scores: Scores) -> None:
    """In place, over the last axis."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
