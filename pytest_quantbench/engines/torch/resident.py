"""The whole model in memory, with kernels for what is quantized: what T1 times; and decoded, for answers.

For T1 activations are bfloat16 on CUDA and Metal, as models are deployed there. On a CPU they are float32: our kernels
multiply stored codes with them, and a CPU gains nothing from rounding a single vector. Weights that nothing was done
to keep their own 16 bits. Answers are generated on decoded weights, in the type that walks compute in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pytest_quantbench.engines import requests
from pytest_quantbench.engines.held_caches import HeldCache
from pytest_quantbench.engines.protocol import Activations, EncodedWeights, Use
from pytest_quantbench.engines.resident import Generation, Sampler, Step, Timed, TimedBatch
from pytest_quantbench.engines.torch import generate, static_cache
from pytest_quantbench.engines.torch.arrays import named
from pytest_quantbench.engines.torch.decode_step import Decoder, piece
from pytest_quantbench.engines.torch.device import free_bytes, need, within
from pytest_quantbench.engines.torch.filling_whole import Filling
from pytest_quantbench.engines.torch.skeleton import decoder_layers, skeleton
from pytest_quantbench.errors import ModelError, QuantbenchError
from pytest_quantbench.quantizers.kv.protocol import KVQuantizer

WHAT: Mapping[Use, str] = {
    "timed": "The whole model, as its weights are stored,",
    "answers": "The whole model, decoded,",
    "rounded answers": "The whole model, decoded,",
}
FEWER = "A recipe of fewer bits, a shorter text or another device (--engine torch:cpu) takes less of it."
ALONE = "This model reads one text at a time: it has an attention of its own, or positions by the length of a text."
PARTS = 12  # of one token, arrays as wide as a layer's widest matrix, that are there at a time
MULTIPLE = 128  # memory for keys and values, and so captured steps, come in multiples of so many tokens at least


class Resident:
    """A loaded model; `dense_layers` counts the encoded parameters that are held decoded."""

    def __init__(self, filled: Filling, held: HeldCache | None = None) -> None:
        self.model, self._device, self._dtype = filled.model, filled.device, filled.dtype
        self.dense_layers: int = filled.decoded
        self.bytes_per_token: int = filled.bytes_per_token
        self.kernels: Mapping[str, int] = dict(filled.kernels)
        self.layers = len(decoder_layers(self.model)[1])
        self._held = held
        self._decoders: dict[int, Decoder] = {}  # of one text, by the length that they have memory for
        self._of_batch: Decoder | None = None

    @property
    def activations(self) -> str:
        """Their type."""
        return named(self._dtype)

    @property
    def step(self) -> Step:
        """How a decode step is run: which is known of one that has been made."""
        return self._any_decoder().step

    def generate(self, tokenizer: Any, prompts: Sequence[Sequence[int]], **how: Any) -> list[Generation]:
        """Answers to prompts, several at a time (see generate)."""
        with within(self._device, "Generating several answers at a time", FEWER):
            return generate.generate(self.model, self.layers, tokenizer, prompts, held=self._held, **how)

    def sampler(self, seed: int, temperature: float = 1.0) -> Sampler:
        """Draws tokens by their probabilities."""
        return generate.sampler_of(seed, self._device, temperature)

    def ready(self, tokens: int) -> None:
        """Takes the memory of such texts, and compiles their step."""
        self.decoder(tokens)

    def decoder(self, length: int) -> Decoder:
        """What decodes texts of this length: the same one whichever texts went before, for a step looks at all of its
        length.
        """
        room = room_of(length)
        if room not in self._decoders:
            self._decoders[room] = self._decoder_of(1, room)
        return self._decoders[room]

    def _any_decoder(self) -> Decoder:
        """One that has been made; where none has, one of the shortest texts."""
        return next(iter(self._decoders.values()), None) or self.decoder(1)

    def _decoder_of(self, rows: int, length: int) -> Decoder:
        with within(self._device, f"Keys and values of {rows * length} tokens beside the weights", FEWER):
            return Decoder(self.model, self.layers, length, self._device, rows)

    @property
    def cache_bytes_per_token(self) -> int:
        """Counted of the memory that was taken for one text."""
        return self._any_decoder().cache_bytes_per_token

    def batch_bytes(self, rows: int, tokens: int) -> int:
        """The cache; what a piece of one prompt needs in between, and the logits of all texts."""
        layers: Any = decoder_layers(self.model)[1]
        words, widest = _longest_side(self.model), _longest_side(layers[0])
        read = piece(tokens) if not static_cache.alone(self.model) else tokens
        between = self._dtype.itemsize * PARTS * read * widest + 4 * read * tokens
        return rows * tokens * self.cache_bytes_per_token + between + 3 * 4 * rows * words

    def timed_batch(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, sampler: Sampler | None = None
    ) -> TimedBatch:
        """One generation of several texts in the rows of one cache, by steps that are run as those of one text are."""
        rows, length = len(prompts), len(prompts[0]) + new_tokens
        if rows > 1 and static_cache.alone(self.model):
            raise ModelError(ALONE)
        decoder = self._decoder_of_batch(rows, length)
        with within(self._device, "One generation of several texts that is timed", FEWER):
            return generate.timed_batch(decoder, prompts, new_tokens, sampler)

    def _decoder_of_batch(self, rows: int, length: int) -> Decoder:
        """The one that was used last, where it is about as long: every step looks at all of its length."""
        held = self._of_batch
        if held is None or held.rows != rows or not 0 <= held.length - length < 2 * MULTIPLE:
            held = self._of_batch = None  # its memory first
            held = self._of_batch = self._decoder_of(rows, -(-length // MULTIPLE) * MULTIPLE)
        return held

    def timed_requests(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[Timed, ...]:
        """As answers are written, module by module."""
        alone = static_cache.alone(self.model)
        with torch.no_grad(), within(self._device, "Several requests that are timed", FEWER):
            batch = generate.Sequences(self.model, self.layers, None, whole=alone)
            return requests.timed(batch, prompts, new_tokens, *([1] if alone else []))

    def timed(self, prompt: Sequence[int], new_tokens: int) -> Timed:
        """One greedy generation, timed token by token. What has to be compiled for it is, before the clock begins."""
        with within(self._device, "One generation that is timed", FEWER):
            return generate.timed(self.decoder(len(prompt) + new_tokens), prompt, new_tokens)


def room_of(length: int) -> int:
    """How many tokens there is memory for where a text has so many: the next multiple of MULTIPLE or, of long ones, of
    a quarter of the power of two below. So a step looks at a quarter more than the text has at most, and texts up to
    8,192 tokens, of whatever lengths, have no more than 20 decoders.
    """
    step = max(MULTIPLE, 1 << max(0, length.bit_length() - 3))
    return -(-length // step) * step


def _longest_side(module: torch.nn.Module) -> int:
    """Of all matrices of a module."""
    held = (*module.parameters(), *module.buffers())
    return max((max(each.shape) for each in held if each.ndim == 2), default=1)


def _way_out(filled: Filling) -> str:
    """What would fit: so many bits per weight where they are held as they are stored, or so many weights."""
    values, free = filled.values, free_bytes(filled.device)
    elsewhere = "" if filled.device.type == "cpu" else "; the CPU (--engine torch:cpu) has the machine's memory"
    if filled.native:
        return f"Of {values:,} weights there is room for {8 * free / values:.1f} bits each{elsewhere}."
    return f"There is room for {free // filled.dtype.itemsize:,} weights of {named(filled.dtype)}{elsewhere}."


def load(
    weights: EncodedWeights,
    use: Use,
    *,
    device: torch.device,
    activations: Activations,
    cache: KVQuantizer | None = None,
) -> Resident:
    """Load a model whole; `activations` are those of walks, `cache` says how keys and values are held.

    Raises ModelError for one that cannot be held so, QuantbenchError for a cache whose time would be asked.
    """
    if cache is not None and use == "timed":
        raise QuantbenchError(
            f"A cache held by the method {cache.name} cannot be timed: it is computed as it would be read, and is not "
            f"stored in fewer bits. Ask for its answers."
        )
    is_float32 = device.type == "cpu" if use == "timed" else (activations == "float32") == (use == "answers")
    dtype = torch.float32 if is_float32 else torch.bfloat16
    model = skeleton(weights.config, dtype)
    static_cache.use(model)
    filled = Filling(model, weights, device, dtype, native=use == "timed")
    need(device, filled.least_bytes, WHAT[use], way_out := _way_out(filled))
    with torch.no_grad(), within(device, WHAT[use], way_out):
        filled.fill()
    return Resident(filled, None if cache is None else HeldCache(cache))
