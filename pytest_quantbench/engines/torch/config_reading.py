"""config.json as Transformers reads it: its own class for the architecture, of a model of several senses that of the
text model alone.

Transformers takes any key and any value that its class does not know, and says so at most in a log. Here a config of
which something would be left out of the computation is refused.
"""

import copy
import dataclasses
import importlib
import importlib.util
import inspect
import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from pytest_quantbench.checkpoints.config import remote_code
from pytest_quantbench.checkpoints.key_names import other_names
from pytest_quantbench.checkpoints.layer_kinds import PATTERN
from pytest_quantbench.checkpoints.rope import ORIGINAL, ROPE_KEYS, TEXT_TABLES, rope_type, ropes_of, text_table
from pytest_quantbench.engines.config_keys import says_nothing
from pytest_quantbench.errors import ArchitectureError, ModelError, first_line

Config = Mapping[str, Any]

# What the classes of Transformers raise for a config that they cannot take.
CANNOT = (
    TypeError,
    LookupError,
    ValueError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    StrictDataclassError,
)
# No fields of its classes, but understood by them all; rotary positions are compared in the built model.
READ_ALL_THE_SAME = ROPE_KEYS | {ORIGINAL, "per_layer_config", *PATTERN, *TEXT_TABLES}
INFINITE = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
OF_POSITIONS = "transformers.modeling_rope_utils"  # whose code reads the tables of rotary positions


def understood(config: Config) -> Any:
    """Transformers' config of the text model.

    Raises ModelError for an architecture that Transformers does not have as a causal language model, and for values
    that it does not take, or takes without using them.
    """
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        own = f" The model's own code ({', '.join(code)}) is never run." if (code := remote_code(config)) else ""
        raise ArchitectureError(
            f"Unsupported architecture: model_type {model_type!r:.80} is not one that Transformers has.{own}"
        )
    try:
        whole = CONFIG_MAPPING[model_type].from_dict(_plain(with_ropes(config)))
        text = whole if text_table(config) is config else whole.get_text_config(decoder=True)
        _refuse_unread(config, whole, text)
        return text
    except CANNOT as error:
        raise ModelError(
            f"Transformers cannot read this config.json of a {model_type!r} model: {first_line(error)}"
        ) from error


def _refuse_unread(config: Config, whole: Any, text: Any) -> None:
    """Raise ModelError naming the first key that changes the arithmetic and that Transformers' code does not have."""
    table = text_table(config)
    for read, keys in {id(config): (whole, config), id(table): (text, table)}.values():
        for key, value in keys.items():
            elsewhere = keys is config and table is not config and key in table  # the text model's own counts
            if not elsewhere and not _is_read(key, value, keys, read):
                raise ModelError(
                    f"Unsupported config.json: Transformers' {config.get('model_type')!r} does not read {key!r}, and "
                    f"{value!r:.200} may change what the model computes. Where it does not, take the key out of a copy "
                    f"of the directory's config.json and give that copy with --model."
                )
    for rope in ropes_of(table).values():
        for key in rope.keys() - {"type"}:
            if not _mentioned(key, text, OF_POSITIONS):
                raise ModelError(
                    f"Unsupported config.json: Transformers' {config.get('model_type')!r} does not read {key!r} of "
                    f"rotary positions, which is {rope[key]!r:.200}."
                )


def _is_read(key: str, value: Any, table: Config, read: Any) -> bool:
    """Whether a key of a config's table counts in what was `read`, or need not."""
    if key in {field.name for field in dataclasses.fields(read)} | set(read.attribute_map) | READ_ALL_THE_SAME:
        return True
    said = any(getattr(read, other, None) == value for other in other_names(key))
    norm = "eps" in key and value in [held for name, held in vars(read).items() if "eps" in name]
    return said or norm or says_nothing(key, value, table) or _mentioned(key, read)


def _mentioned(key: str, read: Any, *more: str) -> bool:
    """Whether the code of the architecture, or of `more` modules, names a key that its config's class has not."""
    own = type(read).__module__
    names = (own, own.replace(".configuration_", ".modeling_"), *more)
    sources = (inspect.getsource(importlib.import_module(name)) for name in names if importlib.util.find_spec(name))
    return any(re.search(rf"\b{re.escape(key)}\b", source) for source in sources)


def with_ropes(config: Config) -> dict[str, Any]:
    """The config with the type of scaled positions under the name that Transformers 5 asks for, tables of text inside
    it too. Of the older name (`type`) some of its classes read nothing, such as Gemma 3's.
    """
    ropes_of(config)  # raises for a table that contradicts itself
    inner = {key: with_ropes(config[key]) for key in TEXT_TABLES if isinstance(config.get(key), dict)}
    scaling = config.get("rope_scaling")
    named = {"rope_scaling": {**scaling, "rope_type": rope_type(scaling)}} if scaling else {}
    return {**config, **inner, **named}


def _plain(value: Any) -> Any:
    """A copy with numbers in the place of what JSON has no number for."""
    if isinstance(value, dict):
        return INFINITE.get(str(value["__float__"])) if value.keys() == {"__float__"} else _of(value)
    return [_plain(each) for each in value] if isinstance(value, list) else copy.copy(value)


def _of(table: dict[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in table.items()}
