"""The whole model in memory, with kernels for what is quantized: what T1 times; and decoded, for answers.

For T1 activations are bfloat16 on CUDA and Metal, as models are deployed there. On a CPU they are float32: our kernels
multiply stored codes with them, and a CPU gains nothing from rounding a single vector. Weights that nothing was done
to keep their own 16 bits. Answers are generated on decoded weights, in the type that walks compute in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pytest_quantbench.engines.held_caches import HeldCache
from pytest_quantbench.engines.protocol import Activations, EncodedWeights, Use
from pytest_quantbench.engines.resident import Generation, Sampler, Step, Timed
from pytest_quantbench.engines.torch import generate, static_cache
from pytest_quantbench.engines.torch.arrays import named
from pytest_quantbench.engines.torch.decode_step import Decoder
from pytest_quantbench.engines.torch.device import free_bytes, need, within
from pytest_quantbench.engines.torch.filling_whole import Filling
from pytest_quantbench.engines.torch.skeleton import decoder_layers, skeleton
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.kv.protocol import KVQuantizer

WHAT: Mapping[Use, str] = {
    "timed": "The whole model, as its weights are stored,",
    "answers": "The whole model, decoded,",
    "rounded answers": "The whole model, decoded,",
}
FEWER = "A recipe of fewer bits, a shorter text or another device (--engine torch:cpu) takes less of it."
MULTIPLE = 128  # memory for keys and values, and so captured steps, come in multiples of so many tokens


class Resident:
    """A loaded model; `dense_layers` counts the encoded parameters that are held decoded."""

    def __init__(self, filled: Filling, held: HeldCache | None = None) -> None:
        self.model, self._device, self._dtype = filled.model, filled.device, filled.dtype
        self.dense_layers: int = filled.decoded
        self.bytes_per_token: int = filled.bytes_per_token
        self.kernels: Mapping[str, int] = dict(filled.kernels)
        self.layers = len(decoder_layers(self.model)[1])
        self._held = held
        self._decoder: Decoder | None = None

    @property
    def activations(self) -> str:
        """Their type."""
        return named(self._dtype)

    @property
    def step(self) -> Step:
        """How a decode step is run: which is known of one that has been made."""
        return self.decoder(1).step

    def generate(self, tokenizer: Any, prompts: Sequence[Sequence[int]], **how: Any) -> list[Generation]:
        """Answers to prompts, several at a time (see generate)."""
        with within(self._device, "Generating several answers at a time", FEWER):
            return generate.generate(self.model, self.layers, tokenizer, prompts, held=self._held, **how)

    def sampler(self, seed: int) -> Sampler:
        """Draws tokens by their probabilities."""
        return generate.sampler_of(seed, self._device)

    def decoder(self, length: int) -> Decoder:
        """What decodes texts of this length."""
        if self._decoder is None or self._decoder.length < length:
            self._decoder = None  # its memory first
            with within(self._device, f"Keys and values of {length} tokens beside the weights", FEWER):
                self._decoder = Decoder(self.model, self.layers, -(-length // MULTIPLE) * MULTIPLE, self._device)
        return self._decoder

    def timed(self, prompt: Sequence[int], new_tokens: int) -> Timed:
        """One greedy generation, timed token by token. What has to be compiled for it is, before the clock begins."""
        with within(self._device, "One generation that is timed", FEWER):
            return generate.timed(self.decoder(len(prompt) + new_tokens), prompt, new_tokens)


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
