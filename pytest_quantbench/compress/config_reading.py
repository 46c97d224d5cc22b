"""What a config says of how a model computes, one value for each thing, whatever spelling it has.

Two configs are compared by it, and one candidate's own values are put into the reference's. A key that is missing means
what the class that wrote the file takes for granted; where that is not known either, nothing is said. Sizes stand in
the shapes of the weights and are not read here.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from pytest_quantbench.checkpoints.key_names import other_names
from pytest_quantbench.checkpoints.omitted_keys import with_omitted
from pytest_quantbench.checkpoints.rope import ALL_LAYERS, FULL, ROPE_KEYS, TEXT_TABLES, Rope, rope_type, ropes_of

Config = Mapping[str, Any]
SAME_NUMBER = 1e-5  # relative: files of float32 have 9.9999997e-06 for 1e-05

# What a config's key means for the arithmetic, in words; `own` ones may be a candidate's.
OWN: Mapping[str, str] = {
    "max_position_embeddings": "context length",
    "rms_norm_eps": "epsilon of the norms",
    "sliding_window": "sliding window",
    "attn_logit_softcapping": "soft cap of attention",
    "final_logit_softcapping": "soft cap of the logits",
}
COMPARED: Mapping[str, str] = {
    **OWN,
    "num_attention_heads": "attention heads",
    "num_key_value_heads": "heads of keys and values",
    "head_dim": "width of a head",
    "hidden_act": "activation",
    "tie_word_embeddings": "output head is the embeddings",
    "query_pre_attn_scalar": "scale of queries",
    "num_experts_per_tok": "experts for a token",
}
UNSCALED = frozenset({"default", "none"})
OF_THE_FILE = frozenset({"rope_type", "type", "finetuned"})  # in a table of positions: no number of the arithmetic


def text_of(config: Config) -> dict[str, Any]:
    """The config of the text model, in a flat table."""
    inner: Config = next((config[key] for key in TEXT_TABLES if isinstance(config.get(key), dict)), {})
    return {**{key: value for key, value in config.items() if key not in TEXT_TABLES}, **inner}


def value_of(text: Config, key: str) -> Any:
    """What a flat config says of a key under any of its names; None where nothing, or where it means nothing."""
    found = next((text[name] for name in (key, *sorted(other_names(key))) if text.get(name) is not None), None)
    return None if key in UNLESS and UNLESS[key](text, found) else found


def _no_window(text: Config, window: Any) -> bool:
    """Whether no layer has a window: switched off, or as long as the longest text."""
    longest = value_of(text, "max_position_embeddings")
    beyond = isinstance(window, int) and isinstance(longest, int) and window >= longest
    return text.get("use_sliding_window") is False or beyond


UNLESS: Mapping[str, Callable[[Config, Any], bool]] = {"sliding_window": _no_window}


def usual(text: Config, key: str) -> Any:
    """What a missing key means in every architecture; None where that is not known."""
    heads, hidden = value_of(text, "num_attention_heads"), value_of(text, "hidden_size")
    if key == "num_key_value_heads":
        return heads
    if key == "head_dim" and isinstance(heads, int) and isinstance(hidden, int) and heads:
        return hidden // heads
    return None


def positions(config: Config) -> dict[str, Rope]:
    """The rotary positions by kind of layer, with what the config leaves out."""
    ropes = ropes_of(text_of(with_omitted(config)))
    return {kind: {key: value for key, value in rope.items() if value is not None} for kind, rope in ropes.items()}


def rope_for(ropes: Mapping[str, Rope], kind: str) -> Rope | None:
    """Those of one kind of layer, where a config has one for all, or calls it full attention."""
    same = {ALL_LAYERS: FULL, FULL: ALL_LAYERS}.get(kind, kind)
    return ropes.get(kind, ropes.get(same))


def scaling(rope: Rope) -> dict[str, Any]:
    """A kind of scaling and its numbers; empty where nothing is scaled."""
    kind = rope_type(rope)
    if kind in UNSCALED:
        return {}
    ignored = OF_THE_FILE | {"rope_theta", "partial_rotary_factor"}
    return {"type": kind} | {key: value for key, value in sorted(rope.items()) if key not in ignored}


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same: numbers but for the rounding of float32, tables in the keys that both have."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        both = one.keys() & other.keys()
        return bool(one) == bool(other) and all(alike(one[key], other[key]) for key in both)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return bool(one is other)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=SAME_NUMBER)
    return bool(one == other)


def without_positions(table: Config) -> dict[str, Any]:
    """A config's table without its keys of rotary positions."""
    return {key: value for key, value in table.items() if key not in ROPE_KEYS}
