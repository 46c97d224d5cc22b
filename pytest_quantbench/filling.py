"""Decoded weights, put into a model's modules for as long as a walk needs them, and hashed on the way."""

import hashlib
from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from pytest_quantbench.hostmath import on_host, view
from pytest_quantbench.standins import RuledInputs
from pytest_quantbench.tracks import DenseWeights


class Filler:
    """Weights of several tracks. `host`: dense layers and embeddings multiply in numpy."""

    def __init__(self, weights: Sequence[DenseWeights], host: bool) -> None:
        self._weights, self._host = weights, host
        self._digests: list[dict[str, str]] = [{} for _ in weights]

    def sha256(self, track: int) -> str:
        """Hash over name, shape and float32 values of all weights that were filled in."""
        digests = sorted(self._digests[track].items())
        return hashlib.sha256("".join(f"{name}={value};" for name, value in digests).encode()).hexdigest()

    def fill(self, module: nn.Module, prefix: str, names: Sequence[str], tracks: Sequence[int]) -> None:
        """Put the decoded float32 weights of these paths (below `prefix`) into the module."""
        weights = self._weights[tracks[0]]
        filled = [(name, self._dense(prefix + name, tracks)) for name in names]
        module.update(tree_unflatten(filled))
        leaves = dict(module.named_modules())
        placed: dict[str, nn.Module] = {}
        for path in {name.rpartition(".")[0] for name in names}:
            twin = on_host(leaves[path]) if self._host else None
            rule = weights.inputs(f"{prefix}{path}.weight") if type(leaves[path]) is nn.Linear else None
            if rule is not None:
                placed[path] = RuledInputs(rule, twin or leaves[path])
            elif twin is not None:
                placed[path] = twin
        module.update_modules(tree_unflatten(list(placed.items())))

    def _dense(self, name: str, tracks: Sequence[int]) -> mx.array:
        array = mx.contiguous(self._weights[tracks[0]].dense(name).astype(mx.float32))
        mx.eval(array)
        if any(name not in self._digests[track] for track in tracks):
            digest = hashlib.sha256(f"{name}{array.shape}".encode())
            digest.update(view(array).data)
            for track in tracks:
                self._digests[track][name] = digest.hexdigest()
        return array
