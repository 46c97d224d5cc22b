"""The whole model in memory, with native quantized layers where a method has them: what T1 times.

On a CPU quality is not measured on that: MLX's quantized products sum in the activation's type, and 16-bit sums are
noisier than the quantizers under test. Answers are generated there on decoded weights, multiplied in numpy: `host`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from pytest_quantbench.engines.answers import PREFILL_TOKENS
from pytest_quantbench.engines.mlx import bytes_read, generate
from pytest_quantbench.engines.mlx.arrays import as_mlx, to_mlx
from pytest_quantbench.engines.mlx.experts import is_stack, multiplies
from pytest_quantbench.engines.mlx.host_products import backend, on_host
from pytest_quantbench.engines.mlx.layers import dense, native, native_experts, ruled
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.engines.protocol import Activations, Config, EncodedWeights
from pytest_quantbench.engines.resident import Generation, Sampler, Step, Timed, TimedBatch
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.kv.protocol import KVQuantizer
from pytest_quantbench.quantizers.mlx_form import config_entry, grid_of, kind_of

PARTS = 12  # of one token, arrays as wide as a layer's widest matrix, that are there at a time
DTYPES: Mapping[Activations, mx.Dtype] = {"float32": mx.float32, "bfloat16": mx.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A loaded model; `dense_layers` counts the encoded matrices that run decoded. `host`: it multiplies in numpy."""

    model: nn.Module
    activations: str
    dense_layers: int
    host: bool = False
    config: Config = field(default_factory=dict)
    step: Step = "module by module"
    cache: KVQuantizer | None = None  # how keys and values are held where answers are written

    @property
    def bytes_per_token(self) -> int:
        """What one decode step reads of MLX's arrays (see bytes_read)."""
        return bytes_read.bytes_per_token(self.model, self.config)

    @property
    def kernels(self) -> Mapping[str, int]:
        """MLX's products, by the kind of their matrix."""
        return bytes_read.kernels(self.model)

    def generate(self, tokenizer: Any, prompts: Sequence[Sequence[int]], **how: Any) -> list[Generation]:
        """Answers to prompts, several at a time (see generate)."""
        return generate.generate(self.model, tokenizer, prompts, host=self.host, cache=self.cache, **how)

    def sampler(self, seed: int, temperature: float = 1.0) -> Sampler:
        """Draws tokens by their probabilities."""
        return generate.sampler_of(seed, temperature)

    @property
    def cache_bytes_per_token(self) -> int:
        """Of what mlx-lm's caches hold."""
        return generate.cache_bytes(self.model)

    def batch_bytes(self, rows: int, tokens: int) -> int:
        """The cache, which mlx-lm copies when it grows; what prompts that are read together need in between, and the
        logits of all texts.
        """
        words, widest = bytes_read.longest_side(self.model), bytes_read.longest_side(self.model.layers[0])
        read = min(tokens, PREFILL_TOKENS)
        between = rows * read * (4 * PARTS * widest + 4 * tokens)
        held: int = 2 * rows * tokens * self.cache_bytes_per_token
        return held + between + 3 * 4 * rows * words

    def timed_batch(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, sampler: Sampler | None = None
    ) -> TimedBatch:
        """One generation of several texts in mlx-lm's batch."""
        return generate.timed_batch(self.model, prompts, new_tokens, sampler)

    def timed_requests(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[Timed, ...]:
        """As answers are written."""
        return generate.timed_requests(self.model, prompts, new_tokens)

    def ready(self, tokens: int) -> None:
        """Nothing: mlx-lm's caches grow with the text."""

    def timed(self, prompt: Sequence[int], new_tokens: int) -> Timed:
        """One greedy generation, timed token by token."""
        return generate.timed(self.model, prompt, new_tokens)


def load(weights: EncodedWeights, *, host: bool = False, activations: Activations | None = None) -> Resident:
    """Load a model whole. Activations are of the type that is asked for; None: as models are timed, float32 on a CPU,
    where 16-bit products are ten times slower, bfloat16 elsewhere.

    `host` decodes every matrix and multiplies in numpy (see host_products), in float32.
    """
    model = skeleton(weights.config, weights.names)
    modules = dict(model.named_modules())
    kept_encoded: dict[str, nn.Module] = {}
    decoded: list[tuple[str, mx.array]] = []
    dense_layers = 0
    for name in weights.names:
        path = name.rpartition(".")[0]
        encoding = weights.encoding(name)
        layer = None if encoding is None or host else _native(modules[path], encoding)
        if layer is not None:
            kept_encoded[path] = layer
        else:
            decoded.append((name, as_mlx(weights.dense(name) if encoding is None else dense(encoding))))
            dense_layers += encoding is not None and encoding.codec.name != "identity"
    biases = dict(decoded)
    for path, layer in kept_encoded.items():
        if (bias := biases.pop(f"{path}.bias", None)) is not None:
            layer["bias"] = bias
    model.update(tree_unflatten(list(biases.items())))
    model.update_modules(tree_unflatten(list(kept_encoded.items())))
    timed = mx.float32 if host or backend() == "cpu" else mx.bfloat16
    dtype = timed if activations is None else DTYPES[activations]
    model.set_dtype(dtype)
    mx.eval(model.parameters())
    _place(model, weights, host)
    name_of_type = str(dtype).removeprefix("mlx.core.")
    return Resident(model=model, config=weights.config, activations=name_of_type, dense_layers=dense_layers, host=host)


def _place(model: nn.Module, weights: EncodedWeights, host: bool) -> None:
    """With `host`, put numpy twins in the place of dense layers and embeddings. Quantized activations get their input
    rules in front of dense layers there, and in front of experts everywhere: other native layers have theirs within.
    """
    placed: dict[str, nn.Module] = {}
    for path, leaf in model.named_modules():
        twin = on_host(leaf) if host else None
        rules = weights.inputs(f"{path}.weight") if is_stack(leaf) or (host and multiplies(leaf)) else None
        if rules is not None:
            placed[path] = ruled(rules, leaf if twin is None else twin)
        elif twin is not None:
            placed[path] = twin
    model.update_modules(tree_unflatten(list(placed.items())))


def _native(original: nn.Module, encoding: Encoding) -> nn.Module | None:
    """What runs a parameter as it is stored; None where it is decoded."""
    if is_stack(original):
        return native_experts(encoding)
    if isinstance(original, nn.Linear):
        return native(encoding)
    arrays, layer = encoding.arrays, encoding.codec.layer(encoding.arrays)
    grid = grid_of(layer)
    if grid is None or config_entry(layer, arrays) is None:
        return None
    group, bits, mode = kind_of(grid)
    rows, columns = original.weight.shape
    embedding = nn.QuantizedEmbedding(rows, columns, group_size=group, bits=bits, mode=mode)
    embedding.update({name: to_mlx(array) for name, array in arrays.items()})
    return embedding
