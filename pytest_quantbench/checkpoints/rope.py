"""Rotary positions in config.json: the two spellings in use, read as one thing and written in both.

Transformers 5 writes `rope_parameters` = {rope_type, rope_theta, factor, …}, or such a table for each layer type
("full_attention", "sliding_attention"). Before, the same stood at the top: `rope_theta`, `rope_scaling` (with `type` or
`rope_type`), `partial_rotary_factor`, the base of sliding layers as `rope_local_base_freq`; GPT-NeoX says
`rotary_emb_base` and `rotary_pct`. mlx-lm's modules read one or the other, each its own. A file that says a thing twice
and differently is refused.
"""

import math
from collections.abc import Mapping
from typing import Any

from pytest_quantbench.errors import ModelError

Rope = dict[str, Any]  # rope_type, rope_theta, and what the type needs
Table = Mapping[str, Any]

ALL_LAYERS, FULL, SLIDING = "", "full_attention", "sliding_attention"
SAME_TYPE = {"su": "longrope", "mrope": "default"}  # a text has one position, not three: mrope is plain there
# What is written beside `rope_scaling` before Transformers 5: its name in rope_parameters, and the names at the top.
AT_TOP = {
    "rope_theta": ("rope_theta", "rotary_emb_base"),
    "partial_rotary_factor": ("partial_rotary_factor", "rotary_pct"),
}
LOCAL_BASE = ("rope_local_base_freq", "rope_local_theta")
ROPE_KEYS = frozenset(
    {"rope_parameters", "rope_scaling", *LOCAL_BASE, *(name for names in AT_TOP.values() for name in names)}
)
TEXT_TABLES = ("text_config", "language_config", "llm_config")  # where a model of several kinds of input describes text
ORIGINAL = "original_max_position_embeddings"
NUMBERS = frozenset(  # what is a number in a table of positions, where it is there at all
    "rope_theta factor partial_rotary_factor low_freq_factor high_freq_factor beta_fast beta_slow mscale "
    "mscale_all_dim short_mscale long_mscale attention_factor alpha".split()
) | {ORIGINAL}
NEED_ORIGINAL = ("llama3", "yarn", "longrope")


def text_table(config: Table) -> Table:
    """The part of a config that describes the text model: the config itself where it is of nothing else."""
    return next((config[key] for key in TEXT_TABLES if isinstance(config.get(key), dict)), config)


def said_type(rope: Table) -> str:
    """The kind of scaling as the file names it."""
    return str(rope.get("rope_type") or rope.get("type") or "default")


def rope_type(rope: Table) -> str:
    """The kind of scaling, by its name in Transformers 5."""
    return SAME_TYPE.get(said_type(rope), said_type(rope))


def ropes_of(table: Table) -> dict[str, Rope]:
    """The rotary positions of a config's table by layer type; under ALL_LAYERS where all have the same; {} for none.

    Raises ModelError for a table that says a thing twice and differently, and for a number that is none.
    """
    new, old = _new(table), _old(table)
    for rope in (*new.values(), *old.values()):
        _refuse_other_than_numbers(rope)
    if not new:
        return old
    for kind, rope in old.items():
        same = kind if kind in new else {ALL_LAYERS: FULL, FULL: ALL_LAYERS}.get(kind, kind)
        for key, value in rope.items():
            if key in new.get(same, {}) and not _agree(key, new[same][key], value):
                raise ModelError(
                    f"config.json contradicts itself: rope_parameters says {key} = {new[same][key]!r}, and the older "
                    f"keys {value!r}. Remove the one that is wrong."
                )
        new[same] = rope | new.get(same, {})
    return new


def _refuse_other_than_numbers(rope: Rope) -> None:
    """A list is left to the model: some have a base for every layer."""
    for key in sorted(NUMBERS & rope.keys()):
        if isinstance(value := rope[key], str | bool | dict):
            raise ModelError(f"config.json says {key} = {value!r:.80} of rotary positions, and it has to be a number.")


def _given(table: Table, key: str) -> Table:
    """The table under a key; {} for none. Raises ModelError for what is no table."""
    given = table.get(key)
    if given is not None and not isinstance(given, Mapping):
        raise ModelError(
            f"config.json says {key} = {given!r:.80}, and it has to be a table such as "
            f'{{"rope_type": "linear", "factor": 2.0}}, or null.'
        )
    return given or {}


def _new(table: Table) -> dict[str, Rope]:
    given = _given(table, "rope_parameters")
    inner = {kind: dict(rope) for kind, rope in given.items() if isinstance(rope, dict)}
    ropes = inner or ({ALL_LAYERS: dict(given)} if given else {})
    for kind, rope in ropes.items():
        ropes[kind] = rope = _named(rope)
        if original := table.get(ORIGINAL):
            rope.setdefault(ORIGINAL, original)
    return ropes


def _named(rope: Table) -> Rope:
    """With its kind under one name."""
    plain = {key: value for key, value in rope.items() if key != "type"}
    return plain | ({"rope_type": said_type(rope)} if "type" in rope else {})


def _old(table: Table) -> dict[str, Rope]:
    rope: Rope = _named(_given(table, "rope_scaling"))
    for key, names in AT_TOP.items():
        said = {name: table[name] for name in names if table.get(name) is not None}
        if len(set(map(str, said.values()))) > 1:
            raise ModelError(f"config.json contradicts itself: {said}. Remove the one that is wrong.")
        rope |= {key: next(iter(said.values()))} if said else {}
    local = next((table[name] for name in LOCAL_BASE if table.get(name) is not None), None)
    if local is None:
        return {ALL_LAYERS: rope} if rope else {}
    return {FULL: rope, SLIDING: {"rope_type": "default", "rope_theta": local}}


def _agree(key: str, one: Any, other: Any) -> bool:
    if key == "rope_type":
        return rope_type({key: one}) == rope_type({key: other})
    return bool(one == other) or one is None or other is None


def spelled(config: Table, *, short: bool) -> dict[str, Any]:
    """The config with its rotary positions in every spelling, tables of text inside it too; all else as it was.

    `short`: for texts up to the length that a longrope model was first trained for, where Transformers takes its
    `short_factor`; mlx-lm takes `long_factor` always. `positions` allows no longer texts.
    """
    inner = {key: spelled(config[key], short=short) for key in TEXT_TABLES if isinstance(config.get(key), dict)}
    ropes = ropes_of(config)
    whole = ropes.get(ALL_LAYERS) or ropes.get(FULL)
    if whole is None or isinstance(whole.get("rope_theta"), list):
        return {**config, **inner}
    written: dict[str, Any] = {**config, **inner, "rope_scaling": _scaling(whole, config, short)}
    for key, names in AT_TOP.items():
        written |= {name: whole[key] for name in names if whole.get(key) is not None}
    if SLIDING in ropes:
        written |= dict.fromkeys(LOCAL_BASE, ropes[SLIDING].get("rope_theta"))
    if rope_type(whole) in NEED_ORIGINAL:
        written.setdefault(ORIGINAL, written["rope_scaling"].get(ORIGINAL))
    flat = {**whole, **(written["rope_scaling"] or {}), "rope_type": said_type(whole)}
    written["rope_parameters"] = flat if ALL_LAYERS in ropes else {**ropes, FULL: flat}
    return written


def _scaling(rope: Rope, config: Table, short: bool) -> Rope | None:
    """`rope_scaling` as mlx-lm's modules read it; None where nothing is scaled."""
    kind = rope_type(rope)
    own = {key: value for key, value in rope.items() if key not in AT_TOP and value is not None}
    if not own.keys() - {"type", "rope_type", ORIGINAL} and kind == "default":
        return None
    own |= dict.fromkeys(("type", "rope_type"), said_type(rope))
    if "factor" in own:
        own["factor"] = float(own["factor"])
    if kind in NEED_ORIGINAL:
        own.setdefault(ORIGINAL, config.get(ORIGINAL) or config.get("max_position_embeddings"))
    if kind == "longrope" and short:
        own |= {f"long_{part}": own[f"short_{part}"] for part in ("factor", "mscale") if f"short_{part}" in own}
    return own | _mscale(own) if kind == "yarn" else own


def _mscale(own: Rope) -> Rope:
    """YaRN's factor on the rotated part, in mlx-lm's words: 0.1 · mscale · ln factor + 1 (Peng et al. 2023, 3.4)."""
    said, factor = own.get("attention_factor"), own.get("factor", 1.0)
    if said is not None and factor > 1 and not own.get("mscale_all_dim"):
        return {"mscale": (said - 1) / (0.1 * math.log(factor)), "mscale_all_dim": 0}
    both = own.get("mscale") and own.get("mscale_all_dim")  # Transformers reads them as a pair
    return {} if both else {"mscale": 1, "mscale_all_dim": 0} if own.get("mscale") else {}
