"""The whole model in memory, with native quantized layers where a method has them: what T1 times.

On a CPU quality is not measured on that: MLX's quantized products sum in the activation's type, and 16-bit sums are
noisier than the quantizers under test. Answers are generated there on decoded weights, multiplied in numpy: `host`.
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from pytest_quantbench.artifacts import Artifact
from pytest_quantbench.hostmath import on_host
from pytest_quantbench.machine import backend
from pytest_quantbench.quantizers import MlxStored, Quantizer
from pytest_quantbench.skeleton import skeleton
from pytest_quantbench.standins import RuledInputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A loaded model; `dense_layers` counts the encoded matrices that run decoded. `host`: it multiplies in numpy."""

    model: nn.Module
    activations: str
    dense_layers: int
    host: bool = False


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


def load(artifact: Artifact, *, host: bool = False, other_activations: bool = False) -> Resident:
    """Load an artifact whole. Activations are float32 on a CPU, where 16-bit products are ten times slower, bfloat16
    elsewhere; `other_activations`: the other way round, for the noise floor.

    `host` decodes every matrix and multiplies in numpy (see hostmath), in float32.
    """
    model = skeleton(artifact.config, artifact.names)
    modules = dict(model.named_modules())
    native: dict[str, nn.Module] = {}
    dense: list[tuple[str, mx.array]] = []
    dense_layers = 0
    for name in artifact.names:
        path = name.rpartition(".")[0]
        codec, arrays = artifact.quantizer(name), artifact.arrays(name)
        layer = None if codec is None or host else _native(modules[path], codec, arrays)
        if layer is not None:
            native[path] = layer
        else:
            dense.append((name, arrays[name.rpartition(".")[2]] if codec is None else codec.decode(arrays)))
            dense_layers += codec is not None and codec.name != "identity"
    biases = dict(dense)
    for path, layer in native.items():
        if (bias := biases.pop(f"{path}.bias", None)) is not None:
            native[path] = Biased(layer, bias)
    model.update(tree_unflatten(list(biases.items())))
    model.update_modules(tree_unflatten(list(native.items())))
    activations = mx.float32 if host or (backend() == "cpu") != other_activations else mx.bfloat16
    model.set_dtype(activations)
    mx.eval(model.parameters())
    if host:
        _to_host(model, artifact)
    name_of_type = str(activations).removeprefix("mlx.core.")
    return Resident(model=model, activations=name_of_type, dense_layers=dense_layers, host=host)


def _to_host(model: nn.Module, artifact: Artifact) -> None:
    """Put numpy twins in the place of dense layers and embeddings, behind the input rules of quantized activations."""
    placed: dict[str, nn.Module] = {}
    for path, leaf in model.named_modules():
        twin = on_host(leaf)
        if twin is not None:
            rule = artifact.inputs(f"{path}.weight") if type(leaf) is nn.Linear else None
            placed[path] = twin if rule is None else RuledInputs(rule, twin)
    model.update_modules(tree_unflatten(list(placed.items())))


def _native(original: nn.Module, codec: Quantizer, arrays: dict[str, mx.array]) -> nn.Module | None:
    if isinstance(original, nn.Linear):
        return codec.linear(arrays)
    stored = codec.mlx_parameters(arrays) if isinstance(codec, MlxStored) else None
    if stored is None:
        return None
    rows, columns = original.weight.shape
    embedding = nn.QuantizedEmbedding(rows, columns, group_size=int(stored["group_size"]), bits=int(stored["bits"]))
    embedding.update(arrays)
    return embedding
