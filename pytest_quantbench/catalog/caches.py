"""Recipes of the key-value cache: by which method of `quantizers.kv`, with which parameters, keys and values are held.

Beside those of the table, `kv4-NAME` is the method NAME with a field `bits` of 4, and `kv-NAME` the method with its
defaults; NAME is a registered method, or a class as `package.module:Class`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A method by name, with the parameters that it is made with."""

    method: str
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)


def _held(method: str, **parameters: int | float | str) -> Held:
    return Held(method=method, parameters=parameters)


HELD: Mapping[str, Held] = MappingProxyType(
    {
        "kv8": _held("affine", bits=8),
        "kv4": _held("affine", bits=4),
        "kv2": _held("affine", bits=2),
        "k8v4": _held("affine", key_bits=8, value_bits=4),
        "kv4-rot": _held("affine", bits=4, rotated=True),
        "kivi4": _held("kivi", bits=4),
        "kivi2": _held("kivi", bits=2),
        "kv8-channel": _held("channel", bits=8),
        "kv4-channel": _held("channel", bits=4),
        "kv2-channel": _held("channel", bits=2),
        "kv8-token": _held("token", bits=8),
        "kv4-token": _held("token", bits=4),
        "kv2-token": _held("token", bits=2),
        "kv1-token": _held("token", bits=1),
        "pmkvq": _held("pmkvq"),
        "mixkvq": _held("mixkvq"),
        "cocktailkv": _held("cocktailkv"),
    }
)
OTHER = re.compile(r"kv(?P<bits>[1-8]?)-(?P<method>[^+]+)")


def named(recipe_id: str) -> Held | None:
    """The method of a recipe of the cache; None for what does not read like one. Whether there is such a method,
    `quantizers.recipe_of` checks.
    """
    if recipe_id in HELD:
        return HELD[recipe_id]
    read = OTHER.fullmatch(recipe_id)
    if read is None:
        return None
    return Held(method=read["method"], parameters={"bits": int(read["bits"])} if read["bits"] else {})


def amiss(weights: str, held: str) -> str:
    """What keeps `WEIGHTS+CACHE` from being a recipe, as the end of a sentence; empty where it is one, as far as can be
    told without the names of weights.
    """
    if named(held) is None:
        if named(weights) is not None and held:
            return f"the weights come first, as in {held}+{weights}"
        return f"{held!r} is no recipe of the key-value cache; those are {', '.join(HELD)}, and kv4-METHOD"
    if not weights or named(weights) is not None or "+" in weights:
        return f"it takes one recipe of the weights and one of the cache, as in int4+{held}"
    return f"weights in 16 bits need no name; it is {held}" if weights == "bf16" else ""
