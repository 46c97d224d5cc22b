"""What a method for the key-value cache is: it says in which form every token's keys and values are held.

A token's keys and values are stored when the model has computed them (keys behind the rotary embedding), and may be
rounded again as the token ages: each form is a `Stage`. A query sees every token in the stage that the token has
reached when the query's own token has just been stored. So what a whole text's queries see can be computed at once:
each stage is a rounding of all tokens, and a query takes from each stage the tokens that are in it. That is what a
cache does which is filled token by token, and nothing that a query sees depends on tokens behind it: tokens that are
rounded together go into a stage together, when the last of them is there.

An engine asks a form for two things: which tokens have gone into which stage (`entered`, or `reached`), and what the
cache gives back of them there (`given_back`, or the same on arrays of its own where the rounding is a `Grid`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.numerics import hadamard

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.integer[Any]]
Part: TypeAlias = Literal["keys", "values"]
PARTS: tuple[Part, Part] = ("keys", "values")


class Rounding(Protocol):
    """One way of holding keys or values in few bits. Each head is rounded for itself, so heads of several sequences of
    the same length may be given at once.
    """

    @property
    def token_group(self) -> int:
        """How many tokens behind each other are rounded together, counted from the first; 1: each for itself."""

    @property
    def looks(self) -> bool:
        """Whether it looks at queries and keys: those of the tokens that are rounded together, and of no others."""

    @abstractmethod
    def rounded(self, numbers: Floats, queries: Floats | None = None, keys: Floats | None = None) -> Floats:
        """(heads, tokens, channels) float32 → what the cache gives back of it, of the same shape. Tokens of a group
        that is not full are rounded with those that are there. Where it `looks`, it gets the same tokens' `queries`,
        (query heads, tokens, channels) behind the rotary embedding, so many of them in order to a head, and `keys`.
        """

    @abstractmethod
    def stored_bits(self, tokens: int, channels: int) -> float:
        """What so many tokens of one head take, with scales, zeros, indices and all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A form that tokens are held in. A token is in it once `age` tokens or more have been stored behind it; `chunk`:
    tokens go into it so many at a time, counted from the first. `rounding` None: as computed, in 16 bits.

    Raises QuantbenchError where tokens that are rounded together would not go into it together.
    """

    rounding: Rounding | None
    age: int = 0
    chunk: int = 1

    def __post_init__(self) -> None:
        """Check it."""
        if self.age < 0 or self.chunk < 1:
            raise QuantbenchError(f"A stage cannot have age = {self.age} and chunk = {self.chunk}: 0 and 1 are least.")
        together = self.rounding.token_group if self.rounding else 1
        if self.chunk % together:
            raise QuantbenchError(
                f"A stage cannot take {self.chunk} tokens at a time, of which {together} are rounded together: "
                "a query would see what depends on tokens behind it. Let chunk be a multiple of the token group."
            )


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

    def __post_init__(self) -> None:
        """Raise QuantbenchError for stages that a token would not go through in order, and for less than no sinks."""
        for part in PARTS:
            ages = [each.age for each in self.stages(part)]
            if ages != sorted(ages):
                raise QuantbenchError(
                    f"Stages of {part} cannot have the ages {', '.join(map(str, ages))} in this order: a token goes "
                    f"into a later one as it ages."
                )
        if self.sinks < 0:
            raise QuantbenchError(f"A cache cannot have sinks = {self.sinks}: give 0 or more tokens.")

    def stages(self, part: Part) -> tuple[Stage, ...]:
        """Of keys or values."""
        return self.keys if part == "keys" else self.values

    def entered(self, part: Part, queries: Integers) -> NDArray[np.int64]:
        """(queries,) positions → (stages, queries): so many of the first tokens have gone into each stage when the
        query's own token has just been stored. A token is in the last of the stages that it has gone into.
        """
        stored = np.asarray(queries, np.int64) + 1
        rows = [np.maximum(stored - each.age, 0) // each.chunk * each.chunk for each in self.stages(part)]
        return np.stack(rows) if rows else np.zeros((0, len(stored)), np.int64)

    def reached(self, part: Part, queries: Integers, tokens: Integers) -> NDArray[np.int8]:
        """(queries,) and (tokens,) positions → (queries, tokens): in which of the part's stages a query sees each
        token; −1: in 16 bits, as a sink or as no stage has been reached. What lies behind the query counts as new.
        """
        stage = np.full((len(queries), len(tokens)), -1, np.int8)
        for index, entered in enumerate(self.entered(part, queries)):
            stage[np.asarray(tokens)[None, :] < entered[:, None]] = index
        stage[:, np.asarray(tokens) < self.sinks] = -1
        return stage

    def in_few_bits(self, part: Part, queries: Integers, window: int | None = None) -> NDArray[np.int64]:
        """(queries,) positions → how many tokens each query sees in a stage that rounds; `window`: of a layer that
        keeps so many of the newest.
        """
        own = np.asarray(queries, np.int64)
        first = np.maximum(self.sinks, 0 if window is None else own + 1 - window)
        entered, found = self.entered(part, own), np.zeros(len(own), np.int64)
        for index, stage in enumerate(self.stages(part)):
            if stage.rounding is not None:
                gone = entered[index + 1 :].max(axis=0, initial=0)
                found += np.maximum(entered[index] - np.maximum(gone, first), 0)
        return found

    def given_back(
        self, part: Part, stage: int, numbers: Floats, queries: Floats | None = None, keys: Floats | None = None
    ) -> Floats:
        """(heads, tokens, channels) → what the cache gives back of every token held in this stage; the definition for
        what engines compute on arrays of their own. What is rotated is rotated back, so queries stay as they are.
        """
        rounding = self.stages(part)[stage].rounding
        if rounding is None:
            return numbers
        turned = rotation(numbers.shape[-1]) if self.rotates and part == "keys" else None
        if not rounding.looks:
            queries = keys = None
        elif self.rotates and queries is not None and keys is not None:
            turn = rotation(keys.shape[-1])
            queries, keys = queries @ turn, keys @ turn
        if turned is None:
            return rounding.rounded(numbers, queries, keys)
        back: Floats = rounding.rounded(numbers @ turned, queries, keys) @ turned.T
        return back


@cache
def rotation(channels: int) -> Floats:
    """(channels, channels) orthonormal float32: rows of keys and of queries are multiplied by it from the right."""
    return np.ascontiguousarray(hadamard.transform(np.eye(channels, dtype=np.float32)).T)


def grouped_queries(keys: Floats, queries: Floats | None) -> Floats:
    """(query heads, tokens, channels) → (heads, query heads of each, tokens, channels), for a rounding that `looks`.

    Raises QuantbenchError where they are not there, or are no queries to these keys.
    """
    each = 0 if queries is None else len(queries) // max(len(keys), 1)
    if queries is None or queries.shape != (each * len(keys), *keys.shape[1:]):
        told = "none" if queries is None else f"those of shape {queries.shape}"
        raise QuantbenchError(f"This rounding looks at queries, and to keys of shape {keys.shape} it was given {told}.")
    return queries.reshape(len(keys), each, *keys.shape[1:])


class KVQuantizer(Protocol):
    """A method; what derives from this class is a frozen dataclass of its parameters."""

    name: ClassVar[str]
    version: ClassVar[int]  # raised when the numbers change: kept samples are measured anew

    @abstractmethod
    def form(self, channels: int) -> CacheForm:
        """How the cache of heads with so many channels is held. Where keys and values differ in size, each part's
        stages are those of its own size. Raises QuantbenchError for a size that cannot be.
        """
