"""What is known of an opened model's parameters, and how much text the model takes."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["linear", "embedding", "experts", "router", "expert bias", "foreign", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of an opened model. `kind` is what it is there for:

    - `linear`, `embedding`: a matrix (out, in); `experts`: one for every expert, (experts, out, in)
    - `router`: a matrix (experts, in) that gives experts their tokens; with one row it weighs a shared expert
    - `expert bias`: one vector for every expert; `foreign`: a matrix in a layer that no quantizer takes
    - `other`: all else. `owner` is the class of the module that holds it.
    """

    path: str
    shape: tuple[int, ...]
    kind: Kind
    owner: str
    layer: int | None  # its decoder layer; None: it lies outside of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which tensors of a checkpoint, by their published names, a parameter is made of.

    `same`: it is one of them as it is; `turned`: the transpose of one, (out, in) of what is published as (in, out);
    `stack`: (experts, out, in), each matrix one of them; `made`: anything else.
    """

    form: Literal["same", "turned", "stack", "made"]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a model takes: token ids below `vocabulary`, and texts of `positions` tokens, begin-of-sequence included.
    None: its config does not say.
    """

    vocabulary: int | None
    positions: int | None

    def longest_input(self, otherwise: int) -> int:
        """How many positions the model takes; `otherwise` where nothing limits them."""
        return otherwise if self.positions is None else self.positions
