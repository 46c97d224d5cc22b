"""Walk a model decoder layer by decoder layer: the corridor of compression, calibration and the quality measures.

mlx-lm models keep their decoder layers in a list and call them `layer(h, mask, cache)`. Stand-ins put into that list
record every layer's arguments while the embeddings flow through; each real layer is then run over all batches before
the next layer's weights are read; a last pass with stand-ins puts in the final hidden states, and the model's own
norm and head do the rest. No code per architecture, and one layer's weights in memory at a time.

Several recipes of a model walk together: layer by layer, each with its own weights and its own hidden states. What one
computes does not depend on the others, to the last bit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map, tree_unflatten

from pytest_quantbench.engines.batches import Batch, Ids, Places, behind_each_other
from pytest_quantbench.engines.logits import Logits
from pytest_quantbench.engines.mlx.experts import multiplies
from pytest_quantbench.engines.mlx.filling import Filler, Outside, leaves
from pytest_quantbench.engines.mlx.hidden_states import HiddenStates, finite
from pytest_quantbench.engines.mlx.host_kernels import host_kernels, replaced
from pytest_quantbench.engines.mlx.kv_cache import KeysValues, Positions, caches
from pytest_quantbench.engines.mlx.logits import logits_of
from pytest_quantbench.engines.mlx.observer import Observer
from pytest_quantbench.engines.mlx.skeleton import decoder_layers, shapes, skeleton
from pytest_quantbench.engines.mlx.stand_ins import Later, Recorder, Stopped, Stopper
from pytest_quantbench.engines.mlx.walk_trial import prove
from pytest_quantbench.engines.protocol import MEMORY_BYTES, InputSink, Rounded, Weights
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.errors import QuantbenchError, WeightError
from pytest_quantbench.progress import track as shown

Wrap = Callable[[str, nn.Module], nn.Module]  # a linear layer's path and the layer → what stands in for it


class Walk:
    """Recipes of one model, walked with float32 activations: track 0, 1, … in the order in which they are given.

    `host` multiplies in numpy (see host_products); hidden states beyond `memory_bytes` go to temporary files. After
    `run`, `logits` gives any batch's logits at chosen positions. A track whose numbers end is left out from there on,
    and named when it is asked for; where that was the last one, the walk ends.
    """

    def __init__(
        self, *tracks: Weights | Rounded, host: bool, memory_bytes: int = MEMORY_BYTES, proof: Proof | None = None
    ) -> None:
        self._weights = [each.weights if isinstance(each, Rounded) else each for each in tracks]
        self._rounding = [isinstance(each, Rounded) for each in tracks]
        self._host, self._filler = host, Filler(self._weights, host)
        config, names = self._weights[0].config, self._weights[0].names
        self.proof = proof or prove(config, names, host, Walk)
        self.proof.refuse(())
        self._anatomy = self.proof.anatomy
        self._model = skeleton(config, names)
        path, self._slots = decoder_layers(self._model)
        self._layers: list[nn.Module] = list(self._slots)
        self._prefixes = [f"{path}.{index}." for index in range(len(self._layers))]
        self._kernels = host_kernels() if host else []
        self._outside = Outside(self._model, self._prefixes, self._slots, self._anatomy, self._filler)
        self._recorders: list[list[Recorder]] = [[] for _ in tracks]
        self._memory_bytes = memory_bytes
        self._states: list[HiddenStates] = []
        self._caches: list[list[list[KeysValues] | None]] = []
        self._results: list[list[dict[Later, Any]]] = []  # of layers that later ones ask for, by track and batch
        self._failed: dict[int, QuantbenchError] = {}
        self.batches: Sequence[Batch] = ()

    def __len__(self) -> int:
        """How many steps there are: one for each decoder layer, as often as the model goes through them."""
        return len(self._layers) * self._anatomy.loops

    def weights_sha256(self, track: int = 0) -> str:
        """Hash over name, shape and float32 values of all weights that were filled in."""
        return self._filler.sha256(track)

    def run(self, batches: Sequence[Batch | Ids], what: str) -> None:
        """Carry batches through all decoder layers; `what` names the bar of progress.

        A branch stands behind its parent. Raises WeightError naming the layer whose result is not a number.
        """
        self.begin(batches)
        for index in shown(range(len(self)), what=what, unit="layer"):
            self.advance(index)

    def begin(self, batches: Sequence[Batch | Ids]) -> None:
        """Embed the batches, and learn with which arguments the model calls its decoder layers."""
        self.batches = behind_each_other(batches)
        self.proof.refuse(self.batches)
        share = self._memory_bytes // len(self._weights)
        self._states = [HiddenStates(share) for _ in self._weights]
        self._results = [[{} for _ in self.batches] for _ in self._weights]
        positions = [Positions(places) for places in Places.of(self.batches)]
        count = len(self._model.make_cache()) if hasattr(self._model, "make_cache") else len(self)
        self._caches = [caches(self.batches, positions, count) for _ in self._weights]
        self._enter(0)

    def _enter(self, turn: int) -> None:
        """Go into the decoder layers for the first time, or once more."""
        for track in reversed(range(len(self._weights))):  # what is outside stays filled with the first, asked first
            if track not in self._failed:
                with self._told([track]):
                    self._embed(track, turn)
        self._refuse_without_tracks()

    def _embed(self, track: int, turn: int) -> None:
        self._outside.fill(track)
        last, states = len(self._layers) - 1, self._states[track]
        recorders = [Recorder(layer, i, self._anatomy, turn) for i, layer in enumerate(self._layers[:-1])]
        recorders.append(stopper := Stopper(self._layers[-1], last, self._anatomy, turn))
        self._slots[:] = recorders
        for number, (batch, held) in enumerate(zip(self.batches, self._caches[track], strict=True)):
            for each in recorders:
                each.turns = 0
            stopper.answer = states[number] if turn else None
            with suppress(Stopped):
                self._model(mx.array(np.asarray(batch.tokens, np.int32)), cache=held)
            entered = recorders[0].entered
            if not finite(entered):
                raise WeightError("The embeddings are no numbers: not a usable model.")
            if turn:
                states[number] = entered
            else:
                states.append(entered)
        self._recorders[track] = recorders

    def advance(self, index: int) -> None:
        """Carry all batches through one decoder layer, with the weights that `dense` gives now."""
        turn, index = divmod(index, len(self._layers))
        if turn and not index:
            self._enter(turn)
        alive = [track for track in range(len(self._weights)) if track not in self._failed]
        sharing: dict[int, list[int]] = {}
        for track in alive:
            sharing.setdefault(id(self._weights[track]), []).append(track)
        for tracks in sharing.values():
            with self._told(tracks), self._layer(index, tracks, None) as layer:
                for track in tracks:
                    with self._told([track]):
                        self._carry(layer, index, track)
        self._refuse_without_tracks()

    def _refuse_without_tracks(self) -> None:
        if len(self._failed) == len(self._weights):
            raise self._failed[0]

    def _carry(self, layer: nn.Module, index: int, track: int) -> None:
        for batch, state in enumerate(self._through(layer, index, track)):
            if not finite(state):
                raise WeightError(f"Decoder layer {index} gives values that are no numbers; the first such layer.")
            self._states[track][batch] = state
        awaited = self._awaited(index, track)
        for results in self._results[track]:
            for later in results.keys() - awaited:
                del results[later]

    def _awaited(self, index: int, track: int) -> set[Later]:
        """Results besides hidden states that the layers behind this one are called with."""
        calls = [call for each in self._recorders[track][index + 1 :] for call in each.calls[:1]]
        return {later for call in calls for later in call.awaited}

    @contextmanager
    def _told(self, tracks: Sequence[int]) -> Iterator[None]:
        """Leave out tracks whose weights cannot be had."""
        try:
            yield
        except QuantbenchError as error:
            self._failed |= dict.fromkeys(tracks, error)

    def let_go(self) -> None:
        """Forget the hidden states; there are no logits after this."""
        self._states = [HiddenStates(0) for _ in self._weights]

    def observe(self, index: int, inputs: InputSink) -> None:
        """Show what the linear layers of one decoder layer are called with, and stay here."""
        self.wrapped(index, Observer(inputs, host=self._host).wrap)

    def wrapped(self, index: int, wrap: Wrap) -> None:
        """Run all batches of track 0 through one decoder layer, every linear layer in it wrapped, and stay here."""
        with self._layer(index, [0], wrap) as layer:
            for _ in self._through(layer, index, 0):
                pass

    @contextmanager
    def _layer(self, index: int, tracks: Sequence[int], wrap: Wrap | None) -> Iterator[nn.Module]:
        """A decoder layer with the weights that these tracks share, which leave it again."""
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

    def _through(self, layer: nn.Module, index: int, track: int) -> Iterator[mx.array]:
        awaited, results = self._awaited(index, track), self._results[track]
        for batch, call in enumerate(self._recorders[track][index].calls):
            with replaced(self._kernels):
                state = call.made(layer, self._states[track][batch], results[batch].__getitem__)
                if self._anatomy.outputs:
                    for later in (later for later in awaited if later.layer == index):
                        results[batch][later] = state[later.place]
                        mx.eval(state[later.place])
                    state = state[0]
                if self._rounding[track]:
                    state = state.astype(mx.bfloat16).astype(mx.float32)
                mx.eval(state)
            yield state

    def logits(self, batch: int, positions: slice, track: int = 0) -> Logits:
        """The logits at these positions of a batch, row after row. Raises WeightError for a track that was left out."""
        found = self.head(batch, positions, track)
        return logits_of(found.reshape(-1, found.shape[-1]))

    def logits_at(self, batch: int, rows: Ids, places: Ids, track: int = 0) -> Logits:
        """The logits of single positions: row `rows[i]`, place `places[i]` of a batch."""
        return logits_of(self.head_at(batch, rows, places, track))

    def head(self, batch: int, positions: slice, track: int = 0) -> mx.array:
        """(rows, positions, vocabulary) float32 logits: norm and head run at these positions only."""
        return self._logits(track, lambda: self._states[track][batch][..., positions, :])

    def head_at(self, batch: int, rows: Ids, places: Ids, track: int = 0) -> mx.array:
        """(count, vocabulary) float32 logits of single positions: row `rows[i]`, place `places[i]` of a batch."""
        chosen = mx.array(rows), mx.array(places)
        return self._logits(track, lambda: mx.expand_dims(self._states[track][batch][..., *chosen, :], -3))[0]

    @cached_property
    def vocabulary(self) -> int:
        """How many logits a position has."""
        alive = [track for track in range(len(self._weights)) if track not in self._failed]
        return int(self.head(0, slice(0, 1), alive[0] if alive else 0).shape[-1])

    def _logits(self, track: int, states: Callable[[], mx.array]) -> mx.array:
        if track in self._failed:
            raise self._failed[track]
        return self._outside.logits(track, states())
