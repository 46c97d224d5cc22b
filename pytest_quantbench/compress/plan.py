"""Which of a model's parameters a recipe encodes, with what, and why the others stay as they are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import mlx.nn as nn

from pytest_quantbench.catalog.recipes import Part, Recipe
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.engines.mlx.experts import is_stack, routers
from pytest_quantbench.engines.mlx.skeleton import decoder_layers, shapes
from pytest_quantbench.errors import ModelError

OUTSIDE = -1  # the group of what lies outside the decoder layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One stored tensor of an artifact: encoded, or left as it was with the reason."""

    name: str
    quantizer: str | None
    shape: tuple[int, ...]
    stored_bytes: int
    arrays: tuple[str, ...]
    part: Literal["inner", "outer", "kept"]
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)  # of the quantizer
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One parameter of the model and what the recipe does to it."""

    name: str
    shape: tuple[int, ...]
    part: Literal["inner", "outer", "kept"]
    codec: Part | None  # None: kept
    reason: str  # why it is kept
    group: int  # decoder layer, or OUTSIDE: parameters of one group share a file

    @property
    def path(self) -> str:
        """The path of the layer that owns the parameter."""
        return self.name.rpartition(".")[0]

    @property
    def experts(self) -> int:
        """How many matrices it is a stack of, (experts, out, in), to be encoded one by one; 0: it is no stack."""
        return self.shape[0] if self.codec is not None and len(self.shape) == 3 else 0

    def tensor(self, stored_bytes: int, arrays: tuple[str, ...], note: str) -> Tensor:
        """The manifest's entry."""
        return Tensor(
            name=self.name,
            quantizer=self.codec.quantizer if self.codec else None,
            parameters=self.codec.parameters if self.codec else {},
            shape=self.shape,
            stored_bytes=stored_bytes,
            arrays=arrays,
            part=self.part,
            note=self.reason or note,
        )


def plan(checkpoint: Checkpoint, recipe: Recipe) -> list[Planned]:
    """Every parameter with its part of the recipe: linear layers inside decoder layers, embeddings and head, the rest.

    Sorted by group, OUTSIDE first. The matrices of all experts are one parameter, (experts, out, in). Raises ModelError
    for a matrix in a kind of layer that no codec here takes; nothing is passed over in silence.
    """
    modules = dict(checkpoint.model.named_modules())
    path, layers = decoder_layers(checkpoint.model)
    deciding = routers(checkpoint.model, path)
    planned = []
    tied = not any(name.endswith("lm_head.weight") for name in checkpoint.names)
    for name, shape in shapes(checkpoint.model).items():
        inside = name.startswith(path + ".")
        layer = int(name[len(path) + 1 :].partition(".")[0]) if inside else None
        reason = _reason_to_keep(name, shape, modules, deciding)
        # Tied embeddings are the output head too, and a mix gives them what it gives the head.
        role = "lm_head.weight" if tied and name.endswith("embed_tokens.weight") else name
        codec = None if reason else recipe.part_for(role, layer, len(layers))
        part: Literal["inner", "outer", "kept"] = "kept" if reason else "inner" if inside else "outer"
        group = OUTSIDE if layer is None else layer
        planned.append(Planned(name=name, shape=shape, part=part, codec=codec, reason=reason, group=group))
    return sorted(planned, key=lambda item: item.group)


def _reason_to_keep(
    name: str, shape: tuple[int, ...], modules: Mapping[str, nn.Module], deciding: Mapping[str, int]
) -> str:
    """Why a parameter is not encoded; empty for the matrices of linear layers, experts and embeddings."""
    owner, _, kind = name.rpartition(".")
    layer = type(modules[owner])
    if kind == "weight" and owner in deciding:
        return f"router of {deciding[owner]} experts" if deciding[owner] > 1 else "gate of a shared expert"
    if kind == "weight" and (layer in (nn.Linear, nn.Embedding) or is_stack(modules[owner])):
        return ""
    bias = kind == "bias" and is_stack(modules[owner])  # one for every expert, and still no matrix
    quantizable = kind == "weight" and hasattr(layer, "to_quantized")  # MLX would
    if quantizable or (not bias and math.prod(shape) > 64 * max(shape, default=1)):
        raise ModelError(f"{name} {shape} is in a {layer.__name__}, which no quantizer here takes.")
    return f"{kind} of {layer.__name__}, {math.prod(shape)} values"
