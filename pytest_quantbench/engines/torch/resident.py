"""The whole model in memory, with kernels for what is quantized: what T1 times; and decoded, for answers.

For T1 activations are bfloat16 on CUDA and Metal, as models are deployed there. On a CPU they are float32: our kernels
multiply stored codes with them, and a CPU gains nothing from rounding a single vector. Weights that nothing was done
to keep their own 16 bits. Answers are generated on decoded weights, in float32 on a CPU and in bfloat16 elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pytest_quantbench.engines.protocol import EncodedWeights, Use
from pytest_quantbench.engines.resident import Generation, Sampler, Step, Timed
from pytest_quantbench.engines.torch import generate, static_cache
from pytest_quantbench.engines.torch.decode_step import Decoder
from pytest_quantbench.engines.torch.filling_whole import Filling
from pytest_quantbench.engines.torch.skeleton import decoder_layers, skeleton

LENGTHS = 128  # memory for keys and values, and so captured steps, come in multiples of so many tokens


class Resident:
    """A loaded model; `dense_layers` counts the encoded parameters that are held decoded."""

    def __init__(self, filled: Filling) -> None:
        self.model, self._device, self._dtype = filled.model, filled.device, filled.dtype
        self.dense_layers: int = filled.decoded
        self.bytes_per_token: int = filled.bytes_per_token
        self.kernels: Mapping[str, int] = dict(filled.kernels)
        self.layers = len(decoder_layers(self.model)[1])
        self._decoder: Decoder | None = None

    @property
    def activations(self) -> str:
        """Their type."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def step(self) -> Step:
        """How a decode step is run: which is known of one that has been made."""
        return self.decoder(1).step

    def generate(self, tokenizer: Any, prompts: Sequence[Sequence[int]], **how: Any) -> list[Generation]:
        """Answers to prompts, several at a time (see generate)."""
        return generate.generate(self.model, self.layers, tokenizer, prompts, **how)

    def sampler(self, seed: int) -> Sampler:
        """Draws tokens by their probabilities."""
        return generate.sampler_of(seed, self._device)

    def decoder(self, length: int) -> Decoder:
        """What decodes texts of this length."""
        if self._decoder is None or self._decoder.length < length:
            self._decoder = None  # its memory first
            self._decoder = Decoder(self.model, self.layers, -(-length // LENGTHS) * LENGTHS, self._device)
        return self._decoder

    def timed(self, prompt: Sequence[int], new_tokens: int) -> Timed:
        """One greedy generation, timed token by token. What has to be compiled for it is, before the clock begins."""
        return generate.timed(self.decoder(len(prompt) + new_tokens), prompt, new_tokens)


def load(weights: EncodedWeights, use: Use, *, device: torch.device) -> Resident:
    """Load a model whole. Raises ModelError for one that cannot be held so."""
    on_cpu = device.type == "cpu"
    exact = torch.float32 if on_cpu or use == "rounded answers" else torch.bfloat16
    dtype = torch.bfloat16 if on_cpu and use == "rounded answers" else exact
    model = skeleton(weights.config, dtype)
    static_cache.use(model)
    filled = Filling(model, weights, device, dtype, native=use == "timed")
    with torch.no_grad():
        filled.fill()
    return Resident(filled)
