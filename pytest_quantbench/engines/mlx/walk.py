"""The layer walk of mlx-lm's models: stand-ins are put into the list of decoder layers, and MLX does the rest."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from pytest_quantbench.engines.batches import Ids, Places
from pytest_quantbench.engines.calls import Call, Later
from pytest_quantbench.engines.held_caches import weights_of
from pytest_quantbench.engines.layer_walk import LayerWalk
from pytest_quantbench.engines.logits import Logits
from pytest_quantbench.engines.mlx.aging_attention import Expected
from pytest_quantbench.engines.mlx.experts import multiplies
from pytest_quantbench.engines.mlx.filling import Filler, Outside, leaves
from pytest_quantbench.engines.mlx.host_kernels import Kernel, host_kernels, replaced
from pytest_quantbench.engines.mlx.host_products import view
from pytest_quantbench.engines.mlx.kv_cache import Caches, Holding, Positions, caches, kinds, shared_masks, windows
from pytest_quantbench.engines.mlx.logits import logits_of
from pytest_quantbench.engines.mlx.observer import Observer
from pytest_quantbench.engines.mlx.skeleton import CANNOT, decoder_layers, shapes, skeleton
from pytest_quantbench.engines.mlx.stand_ins import Recorder, Stopped, Stopper
from pytest_quantbench.engines.mlx.walk_trial import prove
from pytest_quantbench.engines.protocol import MEMORY_BYTES, Cached, InputSink, Rounded, Weights
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.errors import ModelError
from pytest_quantbench.quantizers import Array

Wrap = Callable[[str, nn.Module], nn.Module]  # a linear layer's path and the layer → what stands in for it


class Walk(LayerWalk[mx.array, nn.Module]):
    """Recipes of one model, walked with float32 activations. `host` multiplies in numpy (see host_products)."""

    def __init__(
        self,
        *tracks: Weights | Rounded | Cached,
        host: bool,
        memory_bytes: int = MEMORY_BYTES,
        proof: Proof | None = None,
    ) -> None:
        first = weights_of(tracks[0])
        self._model = skeleton(first.config, first.names)
        path, self._slots = decoder_layers(self._model)
        proof = proof or prove(first.config, first.names, host, Walk)
        super().__init__(tracks, proof=proof, layers=self._slots, memory_bytes=memory_bytes)
        self._host, self._filler = host, Filler(self._weights, self._digests, host)
        self._prefixes = [f"{path}.{index}." for index in range(len(self._layers))]
        self._kernels = host_kernels() if host else []
        self._around = Outside(self._model, self._prefixes, self._slots, self._anatomy, self._filler)
        self._caches: list[list[Caches | None]] = []
        self._masks: Sequence[Kernel] = []
        self._expected: Expected

    def _begun(self) -> None:
        positions, self._masks = [Positions(places) for places in Places.of(self.batches)], shared_masks()
        asked = kinds(self._model, len(self))
        most = len(self.batches) * len(self._layers) if self._anatomy.outputs else 1
        self._expected = Expected(self.proof.architecture, most=most)
        held = [None if each is None else Holding(each, self._expected) for each in self._held]
        for each in self._held:
            if each is not None:
                each.begin()
        kept = windows(self._model, len(self))
        self._caches = [caches(self.batches, positions, asked, each, kept) for each in held]

    def _refill_outside(self, tracks: Sequence[int]) -> None:
        self._around.fill(tracks)

    def _entering(self, track: int, turn: int) -> Iterator[mx.array]:
        last = len(self._layers) - 1
        recorders = [Recorder(layer, i, self._anatomy, turn) for i, layer in enumerate(self._layers[:-1])]
        recorders.append(stopper := Stopper(self._layers[-1], last, self._anatomy, turn))
        self._calls[track] = [each.calls for each in recorders]
        for number, (batch, held) in enumerate(zip(self.batches, self._caches[track], strict=True)):
            self._slots[:] = recorders
            for each in recorders:
                each.turns = 0
            stopper.answer = self._states[track][number] if turn else None
            with replaced(self._masks), suppress(Stopped):
                self._model(mx.array(np.asarray(batch.tokens, np.int32)), cache=held)
            mx.eval(recorders[0].entered)
            yield recorders[0].entered

    def observe(self, index: int, inputs: InputSink) -> None:
        """Show what the linear layers of one decoder layer are called with, and stay here."""
        self.wrapped(index, Observer(inputs, host=self._host).wrap)

    def wrapped(self, index: int, wrap: Wrap) -> None:
        """Run all batches of track 0 through one decoder layer, every linear layer in it wrapped, and stay here."""
        with self._filled(index, [0], wrap) as layer:
            for _ in self._through(layer, index, 0):
                pass

    @contextmanager
    def _filled(self, index: int, tracks: Sequence[int], wrap: Wrap | None = None) -> Iterator[nn.Module]:
        layer, prefix = self._layers[index], self._prefixes[index]
        originals = leaves(layer)
        linear = [path for path, leaf in originals if multiplies(leaf)]
        try:
            self._filler.fill(layer, prefix, list(shapes(layer)), tracks)
            if wrap is not None:
                filled = dict(layer.named_modules())
                layer.update_modules(tree_unflatten([(path, wrap(prefix + path, filled[path])) for path in linear]))
            yield layer
        finally:
            layer.update_modules(tree_unflatten(list(originals)))
            layer.update(tree_map(lambda _: mx.zeros((0,)), layer.parameters()))
            mx.clear_cache()

    @contextmanager
    def _understood(self, track: int) -> Iterator[None]:
        """Raise ModelError where the model asks more of a track's caches than keys and values."""
        try:
            yield
        except CANNOT as error:
            held = self._held[track]
            if held is None:
                raise
            raise ModelError(
                f"mlx-lm's code of {self.proof.architecture!r} ends in {type(error).__name__} ({error}) where its "
                f"key-value cache is held by the method {held.method.name}. Take --engine torch for this recipe."
            ) from error

    def _embed(self, track: int, turn: int) -> None:
        with self._understood(track):
            super()._embed(track, turn)

    def _carry(self, layer: nn.Module, index: int, track: int) -> None:
        with self._understood(track):
            super()._carry(layer, index, track)
        passed: Any = tree_flatten([results for batches in self._results for results in batches])
        self._expected.keep(array for _, array in passed)

    def _called(self, layer: nn.Module, call: Call, state: mx.array, result: Callable[[Later], Any]) -> Any:
        with replaced(self._kernels), self._expected.seen():
            found = call.made(layer, state, result)
            mx.eval(found)
        return found

    def _finished(self, state: mx.array, track: int) -> mx.array:
        rounded = state.astype(mx.bfloat16).astype(mx.float32) if self._rounding[track] else state
        mx.eval(rounded)
        return rounded

    def _finite(self, state: mx.array) -> bool:
        with np.errstate(invalid="ignore"):  # +∞ and −∞ add up to no number, which is the answer
            return bool(np.isfinite(view(state).sum(dtype=np.float64)))

    def _normed_and_multiplied(self, states: mx.array) -> mx.array:
        return self._around.logits(states)

    def _logits_of(self, rows: mx.array) -> Logits:
        return logits_of(rows)

    def _single(self, state: mx.array, rows: Ids, places: Ids) -> mx.array:
        return mx.expand_dims(state[..., mx.array(rows), mx.array(places), :], -3)

    def _to_host(self, state: mx.array) -> Array:
        return view(state)

    def _from_host(self, rows: Array) -> mx.array:
        return mx.array(rows)
