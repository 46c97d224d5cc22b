"""What a method for the key-value cache is: it says in which form every token's keys and values are held.

A token's keys and values are stored when the model has computed them (keys behind the rotary embedding), and may be
rounded again as the token ages: each form is a `Stage`. A query sees every token in the stage that the token has
reached when the query's own token has just been stored. So what a whole text's queries see can be computed at once:
each stage is a rounding of all tokens, and a query takes from each stage the tokens that are in it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.integer[Any]]
Part: TypeAlias = Literal["keys", "values"]


class Rounding(Protocol):
    """One way of holding keys or values in few bits."""

    @property
    def token_group(self) -> int:
        """How many tokens behind each other are rounded together, counted from the first; 1: each for itself."""

    @abstractmethod
    def rounded(self, numbers: Floats, queries: Floats | None = None) -> Floats:
        """(heads, tokens, channels) float32 → what the cache gives back of it, of the same shape. Tokens of a group
        that is not full are rounded with those that are there. `queries`: (query heads, tokens, channels), for methods
        that look at them; only of tokens that have been stored before anything is rounded.
        """

    @abstractmethod
    def stored_bits(self, tokens: int, channels: int) -> float:
        """What so many tokens of one head take, with scales, zeros, indices and all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A form that tokens are held in. A token is in it once `age` tokens or more have been stored behind it; `chunk`:
    tokens go into it so many at a time, counted from the first. `rounding` None: as computed, in 16 bits.
    """

    rounding: Rounding | None
    age: int = 0
    chunk: int = 1


FULL = Stage(rounding=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheForm:
    """How a cache is held: stages of `keys` and of `values`, the first of them from age 0, later ones older. With
    `rotates`, keys and queries are multiplied by an orthonormal Hadamard matrix over their channels before a key is
    stored, so that outliers are spread; scores are as without. The first `sinks` tokens stay in 16 bits.
    """

    keys: tuple[Stage, ...]
    values: tuple[Stage, ...]
    rotates: bool = False
    sinks: int = 0

    def stages(self, part: Part) -> tuple[Stage, ...]:
        """Of keys or values."""
        return self.keys if part == "keys" else self.values

    def reached(self, part: Part, queries: Integers, tokens: Integers) -> NDArray[np.int8]:
        """(queries,) and (tokens,) positions → (queries, tokens): in which of the part's stages a query sees each
        token; −1: in 16 bits, as a sink or as no stage has been reached. What lies behind the query counts as new.
        """
        stage = np.full((len(queries), len(tokens)), -1, np.int8)
        stored = np.asarray(queries)[:, None] + 1  # tokens that are there when the query's own has been stored
        for index, each in enumerate(self.stages(part)):
            entered = np.maximum(stored - each.age, 0) // each.chunk * each.chunk
            stage[np.asarray(tokens)[None, :] < entered] = index
        stage[:, np.asarray(tokens) < self.sinks] = -1
        return stage


class KVQuantizer(Protocol):
    """A method; what derives from this class is a frozen dataclass of its parameters."""

    name: ClassVar[str]
    version: ClassVar[int]  # raised when the numbers change: kept samples are measured anew

    @abstractmethod
    def form(self, channels: int) -> CacheForm:
        """How the cache of heads with so many channels is held. Raises QuantbenchError for a size that cannot be."""
