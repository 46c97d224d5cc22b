"""Recipes: a quantizer with its parameters, what is done to embeddings and head, and the mixes of GGUF files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

from pytest_quantbench.catalog.caches import HELD, amiss, named
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.errors import UnknownNameError, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A width. `quantizer` is the level's default method, `outer_bits` what embeddings and output head get."""

    name: str
    bits: int
    quantizer: str
    outer_bits: int


LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        "bf16": Level(name="bf16", bits=16, quantizer="identity", outer_bits=16),
        "int8": Level(name="int8", bits=8, quantizer="int8", outer_bits=8),
        "int4": Level(name="int4", bits=4, quantizer="nibble", outer_bits=4),
        "int3": Level(name="int3", bits=3, quantizer="milo", outer_bits=4),
        "int2": Level(name="int2", bits=2, quantizer="aqlm", outer_bits=4),
    }
)


CACHE_LEVEL = "kv"  # of recipes that leave weights as they are, and hold the key-value cache in fewer bits
LEVEL_NAMES = (*LEVELS, CACHE_LEVEL)
Kind: TypeAlias = Literal["weights", "cache", "both"]  # what a recipe quantizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A quantizer by name, with the parameters that it is made with."""

    quantizer: str
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is done to a model: `inner` to the matrices of the decoder layers, `outer` to embeddings and head.

    A `mix` overrules both for single matrices. Of a `candidate` nothing is made: its weights are what its files hold,
    and both parts are called `external`. `cache`: by which method (of `quantizers.kv`) keys and values are held;
    a recipe that leaves weights as they are is of the level `kv`.
    """

    id: str
    level: str
    method: str | None  # None: the level's default
    inner: Part
    outer: Part
    mix: str | None = None
    candidate: Candidate | None = None
    cache: Part | None = None

    @property
    def bits(self) -> int:
        """The nominal width of weights in bits; the stored bits per weight are counted from the artifact."""
        return LEVELS[REFERENCE.level if self.level == CACHE_LEVEL else self.level].bits

    @property
    def kind(self) -> Kind:
        """What is quantized."""
        if self.cache is None:
            return "weights"
        return "cache" if self.level == CACHE_LEVEL else "both"

    @property
    def of_weights(self) -> "Recipe":
        """What is done to the weights alone."""
        if self.cache is None:
            return self
        return REFERENCE if self.level == CACHE_LEVEL else recipe(self.id.partition("+")[0])

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every quantizer that takes part."""
        return (self.inner, self.outer, *(rule.part for rule in self._rules))

    @property
    def is_identity(self) -> bool:
        """Whether nothing is changed: the reference."""
        return self.cache is None and all(part.quantizer == "identity" for part in self.parts)

    def part_for(self, name: str, layer: int | None, layers: int) -> Part:
        """What is done to the matrix of this name in one of `layers` decoder layers, or outside of them (None)."""
        for rule in self._rules:
            if rule.takes(name, layer, layers):
                return rule.part
        return self.outer if layer is None else self.inner

    @property
    def _rules(self) -> "tuple[Rule, ...]":
        return MIXES[self.mix].rules if self.mix else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a mix: the matrices of these names get `part`; `some`: in some decoder layers only."""

    names: tuple[str, ...]
    part: Part
    some: bool = False

    def takes(self, name: str, layer: int | None, layers: int) -> bool:
        """Whether this rule decides about a matrix."""
        owner = name.removesuffix(".weight").rpartition(".")[2]
        return owner in self.names and (not self.some or (layer is not None and gets_more_bits(layer, layers)))


def gets_more_bits(layer: int, layers: int) -> bool:
    """Where GGUF mixes spend more: the first and the last eighth of the layers, and every third between them."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _kquant(bits: int) -> Part:
    return Part(quantizer="kquant", parameters={"bits": bits})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """GGUF's way of naming a file: which type each tensor gets. The first rule that takes a matrix decides."""

    inner: Part
    outer: Part
    rules: tuple[Rule, ...]


MIXES: Mapping[str, Mix] = MappingProxyType(
    {
        "q4_k_m": Mix(
            inner=_kquant(4),
            outer=_kquant(4),
            rules=(
                Rule(names=("lm_head",), part=_kquant(6)),
                Rule(names=("qkv_proj",), part=_kquant(5)),
                Rule(names=("v_proj", "down_proj"), part=_kquant(6), some=True),
            ),
        ),
        "q3_k_s": Mix(inner=_kquant(3), outer=_kquant(3), rules=(Rule(names=("lm_head",), part=_kquant(6)),)),
    }
)


def cache_of(recipe_id: str) -> Part | None:
    """How a recipe of the key-value cache alone holds it; None for what is no such recipe."""
    held = named(recipe_id)
    return Part(quantizer=held.method, parameters=held.parameters) if held else None


# Recipes of the key-value cache, by id; of other methods there are more, as `caches.named` tells.
CACHES: Mapping[str, Part] = MappingProxyType({name: part for name in HELD if (part := cache_of(name))})

USUAL_CACHES = ("kv8", "kv4", "k8v4", "kv4-rot", "kivi2")  # of a session that asks for the level and names none


def recipe(recipe_id: str) -> Recipe:
    """The recipe called `int4` (a level's default), `int4-gptq` (a level and a method) or `int4-q4_k_m` (and a mix); a
    method may also be `package.module:Class`. Whether there is such a method, `quantizers.recipe_of` checks.

    `kv8`, or another of `CACHES`, is the reference with its key-value cache held so, and `int4+kv8` joins both;
    `kv4-package.module:Class` is a method of one's own.

    Raises UnknownNameError for a level that does not exist, or a method where there can be none.
    """
    weights, plus, held = recipe_id.rpartition("+")
    if (cache := cache_of(held)) and not plus:
        return replace(REFERENCE, id=recipe_id, level=CACHE_LEVEL, method=recipe_id, cache=cache)
    if plus:
        if amiss(weights, held):
            raise unknown_recipe(recipe_id, MIXES)
        found = recipe(weights)
        return replace(found, id=recipe_id, method="+".join((found.method or "", held)), cache=cache)
    level_name, _, method = recipe_id.partition("-")
    level = LEVELS.get(level_name)
    if level is None or (method and level_name == "bf16"):
        raise unknown_recipe(recipe_id, MIXES)
    if method in MIXES:
        mix = MIXES[method]
        return Recipe(id=recipe_id, level=level_name, method=method, inner=mix.inner, outer=mix.outer, mix=method)
    bits = {} if level_name == "bf16" else {"bits": level.bits}
    outer = Part(quantizer="identity") if level_name == "bf16" else _outer(level)
    inner = Part(quantizer=method or level.quantizer, parameters=bits)
    return Recipe(id=recipe_id, level=level_name, method=method or None, inner=inner, outer=outer)


def is_like_a_recipe(name: str) -> bool:
    """Whether a name begins with a level or is a cache's, so that a candidate of this name would be taken for it."""
    return cache_of(name) is not None or re.split(r"[-+]", name)[0] in LEVEL_NAMES


def recipe_of_candidate(candidate: Candidate, bits_per_weight: float) -> Recipe:
    """The recipe of a candidate whose encoded weights take so many bits each: of the level whose width is nearest."""
    level = min(LEVELS.values(), key=lambda level: abs(level.bits - bits_per_weight))
    part = Part(quantizer="external")
    return Recipe(
        id=candidate.name, level=level.name, method=candidate.name, inner=part, outer=part, candidate=candidate
    )


def unknown_recipe(recipe_id: str, methods: Iterable[str]) -> UnknownNameError:
    """What is raised for a recipe that does not exist, with those that do: levels, methods and caches; for one that
    joins what cannot be joined, with the reason.
    """
    weights, plus, held = recipe_id.rpartition("+")
    if plus and (why := amiss(weights, held)):
        return UnknownNameError(f"Unknown recipe {recipe_id!r}: {why}.")
    choices = [*LEVELS, *(f"LEVEL-{method}" for method in methods if method != "identity"), *CACHES]
    hint = (
        "A quantizer of your own is LEVEL-package.module:Class, and kv4-package.module:Class one of the cache. "
        "Weights and a cache are joined as in int4+kv8."
    )
    return unknown("recipe", recipe_id, choices, hint)


def _outer(level: Level) -> Part:
    return Part(quantizer="rtn", parameters={"bits": level.outer_bits, "group_size": 64})


REFERENCE = recipe("bf16")
