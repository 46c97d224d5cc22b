"""What every engine's layer walk does alike: tracks and their failures, hidden states, turns, results of layers.

Stand-ins record with which arguments a model calls its decoder layers while the embeddings flow through; each real
layer is then run over all batches before the next one's weights are read; a last pass puts in the final hidden states,
and the model's own norm and head do the rest. No code per architecture, and one layer's weights in memory at a time.

Several recipes walk together, each with weights and hidden states of its own, and none changes a bit of another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, Generic, TypeVar

from pytest_quantbench.engines.batches import Batch, Ids, behind_each_other
from pytest_quantbench.engines.calls import Call, Later
from pytest_quantbench.engines.digests import Digests
from pytest_quantbench.engines.held_caches import HoldsCaches, held_caches, weights_of
from pytest_quantbench.engines.hidden_states import HiddenStates
from pytest_quantbench.engines.logits import Logits
from pytest_quantbench.engines.protocol import Cached, Rounded, Weights
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.errors import QuantbenchError, WeightError
from pytest_quantbench.progress import track as shown
from pytest_quantbench.quantizers import Array

State = TypeVar("State", bound=Any)  # an engine's array of hidden states
Module = TypeVar("Module")  # an engine's decoder layer


class LayerWalk(HoldsCaches, ABC, Generic[State, Module]):
    """Recipes of one model: track 0, 1, … in the order in which they are given. A track
    whose numbers end is left out, and named when it is asked for; where that was the last one, the walk ends. Hidden
    states beyond `memory_bytes` go to temporary files.
    """

    def __init__(
        self, tracks: Sequence[Weights | Rounded | Cached], *, proof: Proof, layers: Sequence[Module], memory_bytes: int
    ) -> None:
        proof.refuse(())
        self.proof, self._anatomy = proof, proof.anatomy
        self._weights = [weights_of(each) for each in tracks]
        self._held = held_caches(tracks)
        self._rounding = [isinstance(each, Rounded) for each in tracks]
        self._digests = Digests(self._weights)
        self._layers = list(layers)
        self._calls: list[list[list[Call]]] = [[] for _ in tracks]  # by track, layer and batch
        self._memory_bytes = memory_bytes
        self._states: list[HiddenStates[State]] = []
        self._results: list[list[dict[Later, Any]]] = []  # of layers that later ones ask for, by track and batch
        self._failed: dict[int, QuantbenchError] = {}
        self._outside: Hashable = None  # whose weights lie outside the decoder layers
        self.batches: Sequence[Batch] = ()

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self._layers) * self._anatomy.loops

    def weights_sha256(self, track: int = 0) -> str:
        """Hash over name, shape and float32 values of all weights that were filled in."""
        return self._digests.sha256(track)

    def run(self, batches: Sequence[Batch | Ids], what: str) -> None:
        """Carry batches through all decoder layers; `what` names the bar of progress. A branch is behind its parent.
        Raises WeightError naming the layer whose result is not a number.
        """
        self.begin(batches)
        for index in shown(range(len(self)), what=what, unit="layer"):
            self.advance(index)

    def begin(self, batches: Sequence[Batch | Ids]) -> None:
        """Embed the batches, and learn with which arguments the model calls its decoder layers."""
        self.batches = behind_each_other(batches)
        self.proof.refuse(self.batches)
        share = self._memory_bytes // len(self._weights)
        self._states = [HiddenStates(share, self._to_host, self._from_host) for _ in self._weights]
        self._results = [[{} for _ in self.batches] for _ in self._weights]
        self._begun()
        self._enter(0)

    def _enter(self, turn: int) -> None:
        """Go into the decoder layers for the first time, or once more."""
        for track in reversed(range(len(self._weights))):  # what is outside stays filled with the first, asked first
            if track not in self._failed:
                with self._told([track]):
                    self._embed(track, turn)
        self._refuse_without_tracks()

    def _embed(self, track: int, turn: int) -> None:
        self._fill_outside(track)
        for number, entered in enumerate(self._entering(track, turn)):
            if not self._finite(entered):
                raise WeightError("The embeddings are no numbers: not a usable model.")
            self._states[track].put(number, entered)

    def _fill_outside(self, track: int) -> None:
        """Put a track's weights outside of the layers, unless they are there. Raises what keeps them from being had."""
        source = self._source(track)
        if self._outside != source:
            self._outside = None  # should the weights not be had
            self._refill_outside([each for each in range(len(self._weights)) if self._source(each) == source])
            self._outside = source

    def advance(self, index: int) -> None:
        """Carry all batches through one decoder layer, with the weights that `dense` gives now."""
        turn, index = divmod(index, len(self._layers))
        if turn and not index:
            self._enter(turn)
        sharing: dict[Hashable, list[int]] = {}
        for track in self._alive:
            sharing.setdefault(self._source(track), []).append(track)
        for tracks in sharing.values():
            with self._told(tracks), self._filled(index, tracks) as layer:
                for track in tracks:
                    with self._told([track]):
                        self._carry(layer, index, track)
        self._refuse_without_tracks()

    @property
    def _alive(self) -> list[int]:
        return [track for track in range(len(self._weights)) if track not in self._failed]

    def _refuse_without_tracks(self) -> None:
        if len(self._failed) == len(self._weights):
            raise self._failed[0]

    def _carry(self, layer: Module, index: int, track: int) -> None:
        for batch, state in enumerate(self._through(layer, index, track)):
            if not self._finite(state):
                raise WeightError(f"Decoder layer {index} gives values that are no numbers; the first such layer.")
            self._states[track][batch] = state
        awaited = self._awaited(index, track)
        for results in self._results[track]:
            for later in results.keys() - awaited:
                del results[later]
        if (held := self._held[track]) is not None and index == len(self._layers) - 1:
            held.refuse_unused(self.proof.architecture)

    def _through(self, layer: Module, index: int, track: int) -> Iterator[State]:
        """What the layer makes of every batch of a track."""
        awaited, results = self._awaited(index, track), self._results[track]
        for batch, call in enumerate(self._calls[track][index]):
            found = self._called(layer, call, self._states[track][batch], results[batch].__getitem__)
            if self._anatomy.outputs:
                results[batch] |= {later: found[later.place] for later in awaited if later.layer == index}
                found = found[0]
            yield self._finished(found, track)

    def _awaited(self, index: int, track: int) -> set[Later]:
        """Results besides hidden states that the layers behind this one are called with."""
        calls = [call for each in self._calls[track][index + 1 :] for call in each[:1]]
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
        self._states = [HiddenStates(0, self._to_host, self._from_host) for _ in self._weights]

    def logits(self, batch: int, positions: slice, track: int = 0) -> Logits:
        """The logits at these positions of a batch, row after row. Raises WeightError for a track that was left out."""
        found = self._stretch(batch, positions, track)
        return self._logits_of(found.reshape(-1, found.shape[-1]))

    def logits_at(self, batch: int, rows: Ids, places: Ids, track: int = 0) -> Logits:
        """The logits of single positions: row `rows[i]`, place `places[i]` of a batch."""
        return self._logits_of(self._singles(batch, rows, places, track))

    def head(self, batch: int, positions: slice, track: int = 0) -> Any:
        """(rows, positions, vocabulary) float32 logits on the host: norm and head run at these positions only."""
        return self._stretch(batch, positions, track)

    def head_at(self, batch: int, rows: Ids, places: Ids, track: int = 0) -> Any:
        """(count, vocabulary) float32 logits of single positions: row `rows[i]`, place `places[i]` of a batch."""
        return self._singles(batch, rows, places, track)

    def _stretch(self, batch: int, positions: slice, track: int) -> Any:
        return self._head(track, lambda: self._states[track][batch][..., positions, :])

    def _singles(self, batch: int, rows: Ids, places: Ids, track: int) -> Any:
        return self._head(track, lambda: self._single(self._states[track][batch], rows, places))[0]

    @cached_property
    def vocabulary(self) -> int:
        """How many logits a position has."""
        return int(self._stretch(0, slice(0, 1), next(iter(self._alive), 0)).shape[-1])

    def _head(self, track: int, states: Callable[[], State]) -> Any:
        if track in self._failed:
            raise self._failed[track]
        self._fill_outside(track)
        return self._normed_and_multiplied(states())

    def _source(self, track: int) -> Hashable:
        """Equal for tracks that are filled with the very same numbers."""
        return id(self._weights[track])

    @abstractmethod
    def _begun(self) -> None:
        """Prepare positions and caches of `batches`."""

    @abstractmethod
    def _refill_outside(self, tracks: Sequence[int]) -> None:
        """Put the weights that these tracks share outside of the decoder layers."""

    @abstractmethod
    def _entering(self, track: int, turn: int) -> Iterator[State]:
        """Each batch's hidden states before the first decoder layer, as the model embeds them; notes `_calls`."""

    @abstractmethod
    def _filled(self, index: int, tracks: Sequence[int]) -> AbstractContextManager[Module]:
        """A decoder layer with the weights that these tracks share, which leave it again."""

    @abstractmethod
    def _called(self, layer: Module, call: Call, state: State, result: Callable[[Later], Any]) -> Any:
        """All that the layer gives for one batch."""

    @abstractmethod
    def _finished(self, state: State, track: int) -> State:
        """Hidden states behind a layer, computed, and rounded where the track has it so."""

    @abstractmethod
    def _finite(self, state: State) -> bool:
        """Whether all of them are numbers."""

    @abstractmethod
    def _normed_and_multiplied(self, states: State) -> Any:
        """(…, hidden) → (…, vocabulary): what the model's own norm and head make of them."""

    @abstractmethod
    def _logits_of(self, rows: Any) -> Logits:
        """(n, vocabulary) logits in the form that suits where the engine computes."""

    @abstractmethod
    def _single(self, state: State, rows: Ids, places: Ids) -> State:
        """(…, rows, length, hidden) → (…, 1, count, hidden)."""

    @abstractmethod
    def _to_host(self, state: State) -> Array:
        """The same values and type in numpy; `_from_host` copies them back."""

    @abstractmethod
    def _from_host(self, rows: Array) -> State: ...
