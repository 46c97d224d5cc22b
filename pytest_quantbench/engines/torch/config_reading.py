"""config.json as Transformers reads it: its own class for the architecture, of a model of several senses that of the
text model alone.

Transformers takes any key and any value that its class does not know, and says so at most in a log. Here a config of
which something would be left out of the computation is refused.
"""

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytest_quantbench.checkpoints.config import remote_code
from pytest_quantbench.checkpoints.rope import TEXT_TABLES, rope_type, ropes_of, text_table
from pytest_quantbench.errors import ModelError, first_line

Config = Mapping[str, Any]

# What the classes of Transformers raise for a config that they cannot take.
CANNOT = (TypeError, LookupError, ValueError, AttributeError, ArithmeticError, AssertionError, RuntimeError)
INFINITE = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
OF_POSITIONS = "transformers.modeling_rope_utils"  # whose log says what it does not understand of rotary positions


def understood(config: Config) -> Any:
    """Transformers' config of the text model.

    Raises ModelError for an architecture that Transformers does not have as a causal language model, and for values
    that it does not take, or takes without using them.
    """
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        own = f" The model's own code ({', '.join(code)}) is never run." if (code := remote_code(config)) else ""
        raise ModelError(
            f"Unsupported architecture: model_type {model_type!r:.80} is not one that Transformers has.{own}"
        )
    try:
        with _no_complaints(model_type):
            whole = CONFIG_MAPPING[model_type].from_dict(_plain(with_ropes(config)))
            return whole if text_table(config) is config else whole.get_text_config(decoder=True)
    except CANNOT as error:
        raise ModelError(
            f"Transformers cannot read this config.json of a {model_type!r} model: {first_line(error)}"
        ) from error


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


@contextmanager
def _no_complaints(model_type: str) -> Iterator[None]:
    """Raise ModelError for what Transformers only logs that it does not understand of rotary positions."""
    heard: list[str] = []
    log, listener = logging.getLogger(OF_POSITIONS), _Listener(heard)
    log.addHandler(listener)
    try:
        yield
    finally:
        log.removeHandler(listener)
    if heard:
        raise ModelError(
            f"Unsupported config.json: Transformers' {model_type!r} does not understand what it says of rotary "
            f"positions: {heard[0]}"
        )


class _Listener(logging.Handler):
    """Keeps what a log is told."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage())
