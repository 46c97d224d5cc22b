"""The layer walk of Transformers' models: the layers' own code runs one layer at a time, its calls recorded before."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from pytest_quantbench.engines.batches import Batch, Ids, Places
from pytest_quantbench.engines.calls import Call, Later
from pytest_quantbench.engines.held_caches import weights_of
from pytest_quantbench.engines.layer_walk import LayerWalk
from pytest_quantbench.engines.logits import Logits
from pytest_quantbench.engines.protocol import MEMORY_BYTES, Activations, Cached, InputSink, Rounded, Rows, Weights
from pytest_quantbench.engines.torch import kv_cache
from pytest_quantbench.engines.torch.arrays import to_numpy, to_torch
from pytest_quantbench.engines.torch.attention import attending, placed
from pytest_quantbench.engines.torch.device import float32_sums, need, within
from pytest_quantbench.engines.torch.filling import Filler
from pytest_quantbench.engines.torch.held_keys import HeldBatch, held_batches
from pytest_quantbench.engines.torch.logits import logits_of
from pytest_quantbench.engines.torch.observer import Observer
from pytest_quantbench.engines.torch.products import ExactHead, product
from pytest_quantbench.engines.torch.skeleton import decoder_layers, skeleton
from pytest_quantbench.engines.torch.staged_attention import attend
from pytest_quantbench.engines.torch.stand_ins import Recorder, Stopped, standing_in
from pytest_quantbench.engines.torch.walk_trial import prove
from pytest_quantbench.engines.walk_proof import Proof
from pytest_quantbench.quantizers import Array

TYPES: dict[Activations, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WAY_OUT = "A walk in bfloat16 (--activations bfloat16) takes half of that, and one on the CPU has its memory."
LATELY = 8  # arguments of layers that are compared with a new one


class Walk(LayerWalk[torch.Tensor, nn.Module]):
    """Recipes of one model. Hidden states and products have the type of `activations`; logits are float32.

    A `Rounded` track of a float32 walk has its hidden states rounded to bfloat16 after every layer; one of a bfloat16
    walk is computed in float32.
    """

    def __init__(
        self,
        *tracks: Weights | Rounded | Cached,
        device: torch.device,
        activations: Activations = "float32",
        memory_bytes: int = MEMORY_BYTES,
        proof: Proof | None = None,
    ) -> None:
        first = weights_of(tracks[0])
        self._device, self._model = device, skeleton(first.config)
        self._prepare(self._model)
        path, layers = decoder_layers(self._model)
        proof = proof or prove(first.config, first.names, device, Walk)
        super().__init__(tracks, proof=proof, layers=list(layers), memory_bytes=memory_bytes)
        self._types = [torch.float32 if rounded else TYPES[activations] for rounded in self._rounding]
        self._rounds = activations == "float32"
        self._filler = Filler(self._model, self._weights, self._digests, device)
        inside = tuple(f"{path}.{index}." for index in range(len(self._layers)))
        self._prefixes = list(inside)
        self._within = [[name for name in first.names if name.startswith(prefix)] for prefix in inside]
        self._around = [name for name in first.names if not name.startswith(inside)]
        self._need_memory()
        self._cache_argument = kv_cache.argument(self._model)
        self._places: list[Places] = []
        self._caches: list[list[Any]] = []

    def _prepare(self, model: Any) -> None:
        """Our products, and buffers where the walk computes; attention and experts are ours from `skeleton`."""
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__dict__["forward"] = partial(_linear, module)
            for name, buffer in module._buffers.items():
                if buffer is not None and not buffer.is_meta:
                    module._buffers[name] = buffer.to(self._device)
        head = model.get_output_embeddings()
        self._exact_head = ExactHead(head) if type(head) is nn.Linear else None
        if self._exact_head is not None:
            head.__dict__["forward"] = self._exact_head

    def _need_memory(self) -> None:
        """Raise QuantbenchError where what lies around the decoder layers and the largest of these do not fit."""
        values = {name: getattr(*slots[0]).numel() for name, slots in self._filler.slots.items()}
        largest, around = (
            max(sum(values[name] for name in names) for names in self._within),
            sum(values[name] for name in self._around),
        )
        needed = (largest + around) * max(each.itemsize for each in self._types)
        need(self._device, needed, "One decoder layer with the embeddings and the head", WAY_OUT)

    @contextmanager
    def _computing(self, what: str) -> Iterator[None]:
        """With sums of float32; memory that ends is told."""
        with within(self._device, what, WAY_OUT), float32_sums():
            yield

    def begin(self, batches: Sequence[Batch | Ids]) -> None:
        """Embed the batches."""
        with self._computing("Embedding the texts of a walk"):
            super().begin(batches)

    def advance(self, index: int) -> None:
        """Carry all batches through one decoder layer."""
        with self._computing(f"Decoder layer {index % len(self._layers)} of a walk"):
            super().advance(index)

    def _head(self, track: int, states: Callable[[], torch.Tensor]) -> Any:
        with self._computing("The head of a walk with its logits"):
            return super()._head(track, states)

    def _source(self, track: int) -> Hashable:
        return id(self._weights[track]), self._types[track]

    def _begun(self) -> None:
        self._places = Places.of(self.batches)
        every = self.batches, self._places, len(self), self._device
        self._caches = [
            [*(kv_cache.caches(*every) if held is None else held_batches(held, *every, self._model))]
            for held in self._held
        ]

    def _refill_outside(self, tracks: Sequence[int]) -> None:
        self._filler.empty(self._around)
        if self._exact_head is not None:
            self._exact_head.forget()  # before another one is read
        self._filler.fill(self._around, tracks, self._types[tracks[0]])

    @torch.inference_mode()
    def _entering(self, track: int, turn: int) -> Iterator[torch.Tensor]:
        last = len(self._layers) - 1
        kept = _Kept()
        recorders = [Recorder(index, self._anatomy, kept, turn, index == last) for index in range(last + 1)]
        self._calls[track] = [each.calls for each in recorders]
        for number, places in enumerate(self._places):
            for each in recorders:
                each.turns = 0
            recorders[-1].answer = self._states[track][number] if turn else None
            with standing_in(self._layers, recorders), placed(places), suppress(Stopped):
                self._model(**self._arguments(number, track))
            assert recorders[0].entered is not None
            yield recorders[0].entered

    def _arguments(self, number: int, track: int) -> dict[str, Any]:
        """What the model is called with for a batch."""
        batch, places, cache = self.batches[number], self._places[number], self._caches[track][number]
        tokens = torch.from_numpy(np.ascontiguousarray(batch.tokens, np.int64)).to(self._device)
        arguments: dict[str, Any] = {"input_ids": tokens, "use_cache": cache is not None}
        if cache is not None:
            arguments["position_ids"] = _positions(places, tokens.shape[1]).to(self._device)
            if self._cache_argument is not None:
                arguments[self._cache_argument] = cache
        return arguments

    def observe(self, index: int, inputs: InputSink) -> None:
        """Show what the linear layers of one decoder layer are called with, and stay here."""
        observer = Observer(inputs, self._device)
        computing = self._computing(f"Decoder layer {index} with what is observed")
        with computing, self._filled(index, [0]) as layer, observer.watching(layer, self._prefixes[index]):
            for _ in self._through(layer, index, 0):
                pass

    @contextmanager
    def _filled(self, index: int, tracks: Sequence[int]) -> Iterator[nn.Module]:
        try:
            self._filler.fill(self._within[index], tracks, self._types[tracks[0]])
            yield self._layers[index]
        finally:
            self._filler.empty(self._within[index])

    @torch.inference_mode()
    def _called(self, layer: nn.Module, call: Call, state: torch.Tensor, result: Callable[[Later], Any]) -> Any:
        batch = next((each for each in (*call.args, *call.kwargs.values()) if isinstance(each, HeldBatch)), None)
        if batch is None:
            return call.made(layer, state, result)
        with batch.entered(), attending(partial(attend, batch.staging)):
            return call.made(layer, state, result)

    @torch.inference_mode()
    def _finished(self, state: torch.Tensor, track: int) -> torch.Tensor:
        return state.bfloat16().float() if self._rounding[track] and self._rounds else state

    @torch.inference_mode()
    def _finite(self, state: torch.Tensor) -> bool:
        # where the sum is a number all are, and it takes a fraction of the time
        return bool(state.sum(dtype=torch.float32).isfinite() or state.isfinite().all())

    @torch.inference_mode()
    def _normed_and_multiplied(self, states: torch.Tensor) -> torch.Tensor:
        recorders = [Recorder(index, self._anatomy, _Kept()) for index in range(len(self._layers))]
        recorders[-1].answer = states
        with standing_in(self._layers, recorders):  # any token: its embedding is replaced
            token = torch.zeros((1, 1), dtype=torch.long, device=self._device)
            logits: torch.Tensor = self._model(input_ids=token, use_cache=False).logits
        return logits.float().reshape(*states.shape[-3:-1], -1)  # GPT-2 gives them the shape of the token

    def _logits_of(self, rows: torch.Tensor) -> Logits:
        return logits_of(rows)

    def head(self, batch: int, positions: slice, track: int = 0) -> Rows:
        """(rows, positions, vocabulary) float32 logits, in numpy."""
        return cast(Rows, super().head(batch, positions, track).cpu().numpy())

    def head_at(self, batch: int, rows: Ids, places: Ids, track: int = 0) -> Rows:
        """(count, vocabulary) float32 logits of single positions, in numpy."""
        return cast(Rows, super().head_at(batch, rows, places, track).cpu().numpy())

    def _single(self, state: torch.Tensor, rows: Ids, places: Ids) -> torch.Tensor:
        row, place = (torch.from_numpy(np.asarray(each, np.int64)).to(self._device) for each in (rows, places))
        return state[..., row, place, :].unsqueeze(-3)

    def _to_host(self, state: torch.Tensor) -> Array:
        return to_numpy(state)

    def _from_host(self, rows: Array) -> torch.Tensor:
        return to_torch(np.array(rows)).to(self._device)


class _Kept:
    """Recorded arguments. What is equal to one of the last few is the same object: rotary positions and masks are."""

    def __init__(self) -> None:
        self._last: deque[torch.Tensor] = deque(maxlen=LATELY)

    def __call__(self, item: Any) -> Any:
        if isinstance(item, tuple):
            return tuple(self(each) for each in item)
        if not isinstance(item, torch.Tensor) or any(each is item for each in self._last):
            return item
        alike = (each for each in self._last if each.dtype == item.dtype and torch.equal(each, item))
        if (found := next(alike, None)) is None:
            self._last.append(item)
        return item if found is None else found


def _linear(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return product(x, module.weight, module.bias)


def _positions(places: Places, length: int) -> torch.Tensor:
    """(rows, length): where a batch's own tokens stand, those that pad it included."""
    return torch.from_numpy(places.starts[:, None] + np.arange(length))
