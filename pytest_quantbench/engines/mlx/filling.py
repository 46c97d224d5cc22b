"""Decoded weights, put into a model's modules for as long as a walk needs them, and hashed on the way."""

import hashlib
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

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

    def __init__(self, weights: Sequence[Weights], host: bool) -> None:
        self.weights, self._host = weights, host
        self._digests: list[dict[str, str]] = [{} for _ in weights]

    def sha256(self, track: int) -> str:
        """Hash over name, shape and float32 values of all weights that were filled in."""
        digests = sorted(self._digests[track].items())
        return hashlib.sha256("".join(f"{name}={value};" for name, value in digests).encode()).hexdigest()

    def fill(self, module: nn.Module, prefix: str, names: Sequence[str], tracks: Sequence[int]) -> None:
        """Put the decoded float32 weights of these paths (below `prefix`) into the module."""
        weights = self.weights[tracks[0]]
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
        array = mx.contiguous(as_mlx(self.weights[tracks[0]].dense(name)).astype(mx.float32))
        mx.eval(array)
        if any(name not in self._digests[track] for track in tracks):
            digest = hashlib.sha256(f"{name}{array.shape}".encode())
            digest.update(view(array).data)
            for track in tracks:
                self._digests[track][name] = digest.hexdigest()
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
        self._filled: Weights | None = None  # whose weights are there

    def fill(self, track: int) -> None:
        """Put a track's weights there, unless they are. Raises what keeps them from being had."""
        weights = self._filler.weights[track]
        if self._filled is weights:
            return
        self._filled = None  # should the weights not be had
        self._model.update_modules(tree_unflatten(list(self._leaves)))
        self._model.update(tree_unflatten([(name, mx.zeros((0,))) for name in self._names]))
        sharing = [number for number, each in enumerate(self._filler.weights) if each is weights]
        self._filler.fill(self._model, "", self._names, sharing)
        self._filled = weights

    def logits(self, track: int, states: mx.array) -> mx.array:
        """What the model's own norm and head make of hidden states: (…, hidden) → (…, vocabulary), float32."""
        self.fill(track)
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
