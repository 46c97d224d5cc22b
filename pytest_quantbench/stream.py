"""Walk a model decoder layer by decoder layer: the corridor of compression, calibration and the quality measures.

mlx-lm models keep their decoder layers in a list and call them `layer(h, mask, cache)`. Stand-ins put into that list
record every layer's arguments while the embeddings flow through; each real layer is then run over all batches before
the next layer's weights are read; a last pass with stand-ins puts in the final hidden states, and the model's own
norm and head do the rest. No code per architecture, and one layer's weights in memory at a time.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from numpy.typing import NDArray

from pytest_quantbench.branches import Batch, caches
from pytest_quantbench.errors import WeightError
from pytest_quantbench.hidden import MEMORY_BYTES, HiddenStates
from pytest_quantbench.hostkernels import host_kernels, replaced
from pytest_quantbench.hostmath import on_host, view
from pytest_quantbench.progress import track
from pytest_quantbench.quantizers import InputRule
from pytest_quantbench.skeleton import Config, decoder_layers, shapes, skeleton

Wrap = Callable[[str, nn.Module], nn.Module]  # a linear layer's path and the layer → what stands in for it


class DenseWeights(Protocol):
    """Where a walk gets its weights: parameters by their path in the mlx-lm model, decoded when asked for."""

    @property
    def config(self) -> Config:
        """The model's config.json."""

    @property
    def names(self) -> Sequence[str]:
        """Every parameter's path."""

    def dense(self, name: str) -> mx.array:
        """One parameter, decoded."""

    def inputs(self, name: str) -> InputRule | None:
        """What is done to the inputs of the layer that owns this parameter; None: nothing."""


class _Recorder:
    """Stands in for a decoder layer: notes its arguments and passes the hidden states through."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        self.calls.append((args, kwargs))
        self.entered = h
        return h

    def __getattr__(self, name: str) -> Any:  # models ask their layers for things such as `use_sliding`
        return getattr(self.layer, name)


class _Stopped(Exception):
    """The forward pass has got as far as it should."""


class _Stopper(_Recorder):
    """Stands in for the last decoder layer while arguments are recorded: norm and head are not run for nothing."""

    def __call__(self, h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        super().__call__(h, *args, **kwargs)
        raise _Stopped


class _Injector(_Recorder):
    """Stands in for the last decoder layer: answers with hidden states that were computed before."""

    answer: mx.array

    def __call__(self, h: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        return self.answer


class RuledInputs(nn.Module):
    """A linear layer whose inputs go through a rule first: quantized activations."""

    def __init__(self, rule: InputRule, layer: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rule = rule
        self._layer = (layer,)  # a tuple: the layer's weights belong to the walk, not to this stand-in

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        product: mx.array = self._layer[0](self._rule(x))
        return product


class Walk:
    """One model, walked with float32 activations.

    `host` multiplies in numpy (see hostmath); `rounding` rounds hidden states to bfloat16 after every layer; those
    beyond `memory_bytes` go to temporary files. After `run`, `logits` gives any batch's logits at chosen positions, and
    `weights_sha256` is the hash of every decoded weight that took part.
    """

    def __init__(
        self, weights: DenseWeights, *, host: bool, memory_bytes: int = MEMORY_BYTES, rounding: bool = False
    ) -> None:
        self._weights = weights
        self._host = host
        self._rounding = rounding
        self._model = skeleton(weights.config, weights.names)
        path, self._slots = decoder_layers(self._model)
        self._layers: list[nn.Module] = list(self._slots)
        self._prefixes = [f"{path}.{index}." for index in range(len(self._layers))]
        self._kernels = host_kernels() if host else []
        self._digests: dict[str, str] = {}
        self._recorders: list[_Recorder] = []
        self._memory_bytes = memory_bytes
        self._states = HiddenStates(memory_bytes)
        self.batches: Sequence[Batch] = ()

    def __len__(self) -> int:
        """How many decoder layers there are."""
        return len(self._layers)

    @property
    def weights_sha256(self) -> str:
        """Hash over name, shape and float32 values of all weights that were filled in."""
        return hashlib.sha256("".join(f"{k}={v};" for k, v in sorted(self._digests.items())).encode()).hexdigest()

    def run(self, batches: Sequence[Batch | mx.array], what: str) -> None:
        """Carry batches through all decoder layers; `what` names the bar of progress.

        A branch stands behind its parent. Raises WeightError naming the layer whose result is not a number.
        """
        self.begin(batches)
        for index in track(range(len(self)), what=what, unit="layer"):
            self.advance(index)

    def begin(self, batches: Sequence[Batch | mx.array]) -> None:
        """Embed the batches, and learn with which arguments the model calls its decoder layers."""
        self.batches = [batch if isinstance(batch, Batch) else Batch(tokens=batch) for batch in batches]
        self._fill(
            self._model, "", [name for name in shapes(self._model) if not name.startswith(tuple(self._prefixes))]
        )
        self._recorders = [*map(_Recorder, self._layers[:-1]), _Stopper(self._layers[-1])]
        self._slots[:] = self._recorders
        self._states = HiddenStates(self._memory_bytes)
        for batch, held in zip(self.batches, caches(self.batches, len(self)), strict=True):
            with suppress(_Stopped):
                self._model(batch.tokens, cache=held)
            self._states.append(self._recorders[0].entered)

    def advance(self, index: int) -> None:
        """Carry all batches through one decoder layer, with the weights that `dense` gives now."""
        for batch, state in enumerate(self._through(index, None)):
            if not np.isfinite(view(state).sum(dtype=np.float64)):
                raise WeightError(f"Decoder layer {index} gives values that are no numbers; the first such layer.")
            self._states[batch] = state

    def observe(self, index: int, wrap: Wrap) -> None:
        """Run all batches through one decoder layer, every linear layer in it wrapped, and stay where we are."""
        for _ in self._through(index, wrap):
            pass

    def _through(self, index: int, wrap: Wrap | None) -> Iterator[mx.array]:
        layer, prefix = self._layers[index], self._prefixes[index]
        originals: Any = tree_flatten(layer.leaf_modules(), is_leaf=nn.Module.is_module)
        linear = [path for path, leaf in originals if type(leaf) is nn.Linear]
        self._fill(layer, prefix, list(shapes(layer)))
        if wrap is not None:
            filled = dict(layer.named_modules())
            layer.update_modules(tree_unflatten([(path, wrap(prefix + path, filled[path])) for path in linear]))
        for batch, (args, kwargs) in enumerate(self._recorders[index].calls):
            with replaced(self._kernels):
                state = layer(self._states[batch], *args, **kwargs)
                if self._rounding:
                    state = state.astype(mx.bfloat16).astype(mx.float32)
                mx.eval(state)
            yield state
        layer.update_modules(tree_unflatten(originals))
        layer.update(tree_map(lambda _: mx.zeros((0,)), layer.parameters()))
        mx.clear_cache()

    def logits(self, batch: int, positions: slice) -> mx.array:
        """(rows, positions, vocabulary) float32 logits: norm and head run at these positions only."""
        return self._head(self._states[batch][:, positions])

    def logits_at(self, batch: int, rows: NDArray[np.integer], places: NDArray[np.integer]) -> mx.array:
        """(count, vocabulary) float32 logits of single positions: row `rows[i]`, place `places[i]` of a batch."""
        return self._head(self._states[batch][mx.array(rows), mx.array(places)][None])[0]

    @cached_property
    def vocabulary(self) -> int:
        """How many logits a position has."""
        return int(self.logits(0, slice(0, 1)).shape[-1])

    def _head(self, states: mx.array) -> mx.array:
        injector = _Injector(self._layers[-1])
        injector.answer = states
        self._slots[:] = [*map(_Recorder, self._layers[:-1]), injector]
        logits: mx.array = self._model(mx.zeros((1, 1), mx.int32))  # any tokens: their embeddings are replaced
        return logits

    def _fill(self, module: nn.Module, prefix: str, names: Sequence[str]) -> None:
        """Put the decoded float32 weights of these paths (below `prefix`) into the module."""
        filled = [(name, self._dense(prefix + name)) for name in names]
        module.update(tree_unflatten(filled))
        leaves = dict(module.named_modules())
        placed: dict[str, nn.Module] = {}
        for path in {name.rpartition(".")[0] for name in names}:
            twin = on_host(leaves[path]) if self._host else None
            rule = self._weights.inputs(f"{prefix}{path}.weight") if type(leaves[path]) is nn.Linear else None
            if rule is not None:
                placed[path] = RuledInputs(rule, twin or leaves[path])
            elif twin is not None:
                placed[path] = twin
        module.update_modules(tree_unflatten(list(placed.items())))

    def _dense(self, name: str) -> mx.array:
        array = mx.contiguous(self._weights.dense(name).astype(mx.float32))
        mx.eval(array)
        digest = hashlib.sha256(f"{name}{array.shape}".encode())
        digest.update(view(array).data)
        self._digests[name] = digest.hexdigest()
        return array
