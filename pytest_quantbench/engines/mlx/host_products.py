"""Dense layers whose products run in numpy: what MLX's Linux CPU build needs, and nothing else does.

That build is linked against a reference BLAS (7 GFLOP/s where numpy has 230 on the same two cores). An evaluated
float32 MLX array is a numpy view at no cost, so only the product's result is copied. Used by the layer walk of the
quality measures and of calibration, never by T1.
"""

from functools import cache

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.mlx.experts import Routed, is_stack
from pytest_quantbench.engines.protocol import Backend


@cache
def backend() -> Backend:
    """Where MLX's arrays land by default."""
    if mx.default_device() == mx.Device(mx.cpu, 0):
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


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
        self.weight = weight  # under its own name: some models multiply by it themselves, or change it
        if bias is not None:
            self.bias = bias

    def __call__(self, x: mx.array) -> mx.array:
        product = _product(x, view(self.weight))
        if "bias" in self:
            product += view(self.bias)
        return mx.array(product)


class HostExperts(nn.Module):
    """Each expert's rows in one product, float32; `weight` is (experts, out, in), `bias` (experts, out) or None."""

    def __init__(self, weight: mx.array, bias: mx.array | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host_weight = view(weight)
        self.host_bias = None if bias is None else view(bias)

    def __call__(self, x: mx.array, indices: mx.array, sorted_indices: bool = False) -> mx.array:
        """(…, rows, in) and the experts' numbers (…) → (…, rows, out), as mlx-lm's `SwitchLinear`."""
        routed, blocks = Routed(x, indices), view(x).reshape(-1, *x.shape[-2:])
        product = np.empty((len(routed.order), x.shape[-2], self.host_weight.shape[1]), np.float32)
        for expert, part in routed:
            rows = blocks[routed.sources[part]]
            with np.errstate(over="ignore", invalid="ignore"):
                own = rows.reshape(-1, rows.shape[-1]) @ self.host_weight[expert].T
            if self.host_bias is not None:
                own += self.host_bias[expert]
            product[routed.order[part]] = own.reshape(*rows.shape[:-1], -1)
        return mx.array(product.reshape(*routed.shape, *product.shape[1:]))


class HostEmbedding(nn.Module):
    """Token rows of a (vocabulary, hidden) float32 matrix, and the same matrix as an output head."""

    def __init__(self, weight: mx.array) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weight = weight

    def __call__(self, tokens: mx.array) -> mx.array:
        return mx.array(view(self.weight)[np.asarray(tokens)])

    def as_linear(self, x: mx.array) -> mx.array:
        """(…, hidden) → (…, vocabulary)."""
        return mx.array(_product(x, view(self.weight)))


def on_host(leaf: nn.Module) -> nn.Module | None:
    """The numpy twin of a filled dense layer or embedding; None for every other module."""
    if type(leaf) is nn.Linear:
        return HostLinear(leaf.weight, leaf.get("bias"))
    if is_stack(leaf):
        return HostExperts(leaf.weight, leaf.get("bias"))
    return HostEmbedding(leaf.weight) if type(leaf) is nn.Embedding else None
