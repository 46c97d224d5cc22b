"""Shows the inputs of a decoder layer's linear layers to whoever collects them, while a walk runs the layer."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.engines.mlx.experts import Routed
from pytest_quantbench.engines.mlx.host_products import view
from pytest_quantbench.engines.protocol import InputSink, Rows


class Observer:
    """Tells `inputs` what the layers that it wraps are called with. `host`: products of inputs are numpy's."""

    def __init__(self, inputs: InputSink, *, host: bool) -> None:
        self._inputs = inputs
        self._square = _square_on_host if host else _square
        self._owner: dict[str, str] = {}  # path → the path that is called with the same inputs, and called first
        self._last: tuple[str, mx.array, mx.array | None] | None = None

    def wrap(self, path: str, layer: nn.Module) -> nn.Module:
        """The layer of this path, reporting its inputs."""
        return _Observed(self, path, layer)

    def see(self, path: str, x: mx.array, indices: mx.array | None = None) -> None:
        """Add the input of one call; of a layer of experts with `indices`, the expert that each token goes to."""
        shared = self._last is not None and self._last[1] is x and self._last[2] is indices
        owner = self._owner.setdefault(path, self._last[0] if shared and self._last else path)
        if owner != path:
            self._inputs.share(path, owner)
            return
        mx.eval(x)
        if indices is None:
            self._inputs.add(path, view(x).reshape(-1, x.shape[-1]), self._square)
        else:
            rows = view(x).reshape(-1, x.shape[-1])
            self._inputs.add_routed(path, rows, _by_expert(x, indices), self._square)
        self._last = (path, x, indices)


def _by_expert(x: mx.array, indices: mx.array) -> Iterator[tuple[int, Rows]]:
    """Every expert that has tokens, and its rows."""
    blocks, routed = view(x).reshape(-1, *x.shape[-2:]), Routed(x, indices)
    for expert, part in routed:
        yield expert, blocks[routed.sources[part]].reshape(-1, x.shape[-1])


def _square(rows: Rows) -> Rows:
    """rowsᵀ rows, (in, in), where MLX computes."""
    flat = mx.array(rows)
    return np.array(flat.T @ flat)


def _square_on_host(rows: Rows) -> Rows:
    square: Rows = rows.T @ rows
    return square


class _Observed(nn.Module):
    """Stands in for a linear layer and shows its input to the observer."""

    def __init__(self, observer: Observer, path: str, layer: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen_by = (observer, path)  # a tuple: MLX's modules would take anything else for parameters
        self._inner = (layer,)

    def __call__(self, x: mx.array, *routing: Any, **sorting: Any) -> mx.array:
        """(…, in) → (…, out); a layer of experts also gets their numbers, and whether those are sorted."""
        observer, path = self._seen_by
        observer.see(path, x, *routing[:1])
        product: mx.array = self._inner[0](x, *routing, **sorting)
        return product
