"""Decoded weights, put into a model's modules for as long as a walk needs them, and hashed on the way."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from pytest_quantbench.engines.digests import Digests
from pytest_quantbench.engines.mlx.arrays import as_mlx
from pytest_quantbench.engines.mlx.experts import multiplies
from pytest_quantbench.engines.mlx.host_products import on_host, view
from pytest_quantbench.engines.mlx.layers import ruled
from pytest_quantbench.engines.mlx.skeleton import shapes
from pytest_quantbench.engines.mlx.stand_ins import Injector, Recorder
from pytest_quantbench.engines.protocol import Weights
from pytest_quantbench.engines.walk_proof import Anatomy


class Filler:
    """Weights of several tracks. `host`: dense layers and embeddings multiply in numpy."""

    def __init__(self, weights: Sequence[Weights], digests: Digests, host: bool) -> None:
        self._weights, self._digests, self._host = weights, digests, host

    def fill(self, module: nn.Module, prefix: str, names: Sequence[str], tracks: Sequence[int]) -> None:
        """Put the decoded float32 weights of these paths (below `prefix`) into the module."""
        weights = self._weights[tracks[0]]
        filled = [(name, self._dense(prefix + name, tracks)) for name in names]
        module.update(tree_unflatten(filled))
        leaves = dict(module.named_modules())
        placed: dict[str, nn.Module] = {}
        for path in {name.rpartition(".")[0] for name in names}:
            twin = on_host(leaves[path]) if self._host else None
            rule = weights.inputs(f"{prefix}{path}.weight") if multiplies(leaves[path]) else None
            if rule is not None:
                placed[path] = ruled(rule, leaves[path] if twin is None else twin)
            elif twin is not None:
                placed[path] = twin
        module.update_modules(tree_unflatten(list(placed.items())))

    def _dense(self, name: str, tracks: Sequence[int]) -> mx.array:
        array = mx.contiguous(as_mlx(self._weights[tracks[0]].dense(name)).astype(mx.float32))
        mx.eval(array)
        self._digests.note(name, array.shape, tracks, lambda: view(array).data)
        return array


class Outside:
    """What lies outside a model's decoder layers (whose parameters' paths begin with `inside`), filled with one track's
    weights at a time. `slots` is the model's own list of its decoder layers.
    """

    def __init__(
        self, model: nn.Module, inside: Sequence[str], slots: list[Any], anatomy: Anatomy, filler: Filler
    ) -> None:
        self._model, self._slots, self._anatomy, self._filler = model, slots, anatomy, filler
        self._layers: list[nn.Module] = list(slots)
        self._names = [name for name in shapes(model) if not name.startswith(tuple(inside))]
        around = tuple(name.rpartition(".")[0] + "." for name in self._names)  # modules that have such parameters
        self._leaves = [leaf for leaf in leaves(model) if f"{leaf[0]}.".startswith(around)]

    def fill(self, tracks: Sequence[int]) -> None:
        """Put the weights that these tracks share there. Raises what keeps them from being had."""
        self._model.update_modules(tree_unflatten(list(self._leaves)))
        self._model.update(tree_unflatten([(name, mx.zeros((0,))) for name in self._names]))
        self._filler.fill(self._model, "", self._names, tracks)

    def logits(self, states: mx.array) -> mx.array:
        """What the model's own norm and head make of hidden states: (…, hidden) → (…, vocabulary), float32."""
        recorders = [Recorder(layer, i, self._anatomy) for i, layer in enumerate(self._layers[:-1])]
        injector = Injector(self._layers[-1], len(self._layers) - 1, self._anatomy)
        injector.answer = states
        self._slots[:] = [*recorders, injector]
        logits: mx.array = self._model(mx.zeros((1, 1), mx.int32))  # any tokens: their embeddings are replaced
        return logits


def leaves(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that have no others in them, by their paths."""
    found: Any = tree_flatten(module.leaf_modules(), is_leaf=nn.Module.is_module)
    return list(found)
