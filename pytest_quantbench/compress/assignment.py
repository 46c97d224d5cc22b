"""Which of a model's parameters a recipe encodes, with what, and why the others stay as they are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pytest_quantbench.catalog.recipes import Part, Recipe
from pytest_quantbench.engines.parameters import Kind, Parameter
from pytest_quantbench.engines.protocol import Architecture
from pytest_quantbench.errors import ModelError

ENCODED: tuple[Kind, ...] = ("linear", "embedding", "experts")
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
        """What the parameter's inputs and arrays are known by: its layer's path, or its own where a layer of experts
        has several matrices.
        """
        return self.name.removesuffix(".weight")

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


def plan(source: Architecture, recipe: Recipe) -> list[Planned]:
    """Every parameter with its part of the recipe: linear layers inside decoder layers, embeddings and head, the rest.

    Sorted by group, OUTSIDE first. The matrices of all experts are one parameter, (experts, out, in). Raises ModelError
    for a matrix in a kind of layer that no codec here takes; nothing is passed over in silence.
    """
    parameters, layers = source.parameters, len(source.layers)
    tied = not any(each.path.endswith("lm_head.weight") for each in parameters)
    planned = []
    for each in parameters:
        name, layer, reason = each.path, each.layer, _reason_to_keep(each)
        # Tied embeddings are the output head too, and a mix gives them what it gives the head.
        role = "lm_head.weight" if tied and name.endswith("embed_tokens.weight") else name
        codec = None if reason else recipe.part_for(role, layer, layers)
        part: Literal["inner", "outer", "kept"] = "kept" if reason else "outer" if layer is None else "inner"
        group = OUTSIDE if layer is None else layer
        planned.append(Planned(name=name, shape=each.shape, part=part, codec=codec, reason=reason, group=group))
    return sorted(planned, key=lambda item: item.group)


def _reason_to_keep(parameter: Parameter) -> str:
    """Why a parameter is not encoded; empty for the matrices of linear layers, experts and embeddings."""
    kind, shape, values = parameter.kind, parameter.shape, math.prod(parameter.shape)
    if kind in ENCODED:
        return ""
    if kind == "router":
        return f"router of {shape[0]} experts" if shape[0] > 1 else "gate of a shared expert"
    if kind == "foreign" or (kind == "other" and values > 64 * max(shape, default=1)):
        raise ModelError(f"{parameter.path} {shape} is in a {parameter.owner}, which no quantizer here takes.")
    return f"{parameter.path.rpartition('.')[2]} of {parameter.owner}, {values} values"
