"""The whole model in memory, with native quantized layers where a method has them: what T1 times.

On a CPU quality is not measured on that: MLX's quantized products sum in the activation's type, and 16-bit sums are
noisier than the quantizers under test. Answers are generated there on decoded weights, multiplied in numpy: `host`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from pytest_quantbench.engines.mlx import generate
from pytest_quantbench.engines.mlx.experts import is_stack, multiplies
from pytest_quantbench.engines.mlx.host_products import backend, on_host
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.engines.mlx.stacks import Encoding
from pytest_quantbench.engines.mlx.stand_ins import ruled
from pytest_quantbench.engines.protocol import EncodedWeights
from pytest_quantbench.engines.resident import Generation, Sampler, Timed


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A loaded model; `dense_layers` counts the encoded matrices that run decoded. `host`: it multiplies in numpy."""

    model: nn.Module
    activations: str
    dense_layers: int
    host: bool = False

    def generate(self, tokenizer: Any, prompts: Sequence[Sequence[int]], **how: Any) -> list[Generation]:
        """Answers to prompts, several at a time (see generate)."""
        return generate.generate(self.model, tokenizer, prompts, host=self.host, **how)

    def sampler(self, seed: int) -> Sampler:
        """Draws tokens by their probabilities."""
        return generate.sampler_of(seed)

    def timed(self, prompt: Sequence[int], new_tokens: int) -> Timed:
        """One greedy generation, timed token by token."""
        return generate.timed(self.model, prompt, new_tokens)


class Biased(nn.Module):
    """A native layer with the original's bias added."""

    def __init__(self, layer: nn.Module, bias: mx.array) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layer = layer
        self.bias = bias

    def __call__(self, x: mx.array) -> mx.array:
        """(…, in) → (…, out)."""
        product: mx.array = self.layer(x)
        return product + self.bias


def load(weights: EncodedWeights, *, host: bool = False, other_activations: bool = False) -> Resident:
    """Load a model whole. Activations are float32 on a CPU, where 16-bit products are ten times slower, bfloat16
    elsewhere; `other_activations`: the other way round, for the noise floor.

    `host` decodes every matrix and multiplies in numpy (see host_products), in float32.
    """
    model = skeleton(weights.config, weights.names)
    modules = dict(model.named_modules())
    native: dict[str, nn.Module] = {}
    dense: list[tuple[str, mx.array]] = []
    dense_layers = 0
    for name in weights.names:
        path = name.rpartition(".")[0]
        encoding = weights.encoding(name)
        layer = None if encoding is None or host else _native(modules[path], encoding)
        if layer is not None:
            native[path] = layer
        else:
            dense.append((name, weights.dense(name) if encoding is None else encoding.dense()))
            dense_layers += encoding is not None and encoding.codec.name != "identity"
    biases = dict(dense)
    for path, layer in native.items():
        bias = biases.pop(f"{path}.bias", None)
        if bias is not None and is_stack(modules[path]):
            layer["bias"] = bias
        elif bias is not None:
            native[path] = Biased(layer, bias)
    model.update(tree_unflatten(list(biases.items())))
    model.update_modules(tree_unflatten(list(native.items())))
    activations = mx.float32 if host or (backend() == "cpu") != other_activations else mx.bfloat16
    model.set_dtype(activations)
    mx.eval(model.parameters())
    _place(model, weights, host)
    name_of_type = str(activations).removeprefix("mlx.core.")
    return Resident(model=model, activations=name_of_type, dense_layers=dense_layers, host=host)


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
    codec, arrays = encoding.codec, encoding.arrays
    if is_stack(original):
        return _native_experts(encoding)
    if isinstance(original, nn.Linear):
        return codec.linear(arrays)
    stored = encoding.mlx_parameters()
    if stored is None:
        return None
    rows, columns = original.weight.shape
    embedding = nn.QuantizedEmbedding(rows, columns, group_size=int(stored["group_size"]), bits=int(stored["bits"]))
    embedding.update(arrays)
    return embedding


def _native_experts(encoding: Encoding) -> nn.Module | None:
    """MLX's own quantized experts, where every expert's native layer is MLX's and all are stored alike; else None."""
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear

    layers: list[nn.QuantizedLinear] = []
    for arrays in encoding.matrices:
        layer = encoding.codec.linear(arrays)
        if type(layer) is not nn.QuantizedLinear or _kind(layer) != _kind(layers[0] if layers else layer):
            return None
        layers.append(layer)
    group, bits, mode = _kind(layers[0])
    experts = QuantizedSwitchLinear(128, 32, 1, bias=False, group_size=group, bits=bits, mode=mode)
    for name in ("weight", "scales", "biases"):
        held = [array for layer in layers if (array := layer.get(name)) is not None]
        experts[name] = mx.stack(held) if held else None
    return experts


def _kind(layer: nn.QuantizedLinear) -> tuple[int, int, str]:
    return layer.group_size, layer.bits, layer.mode
