"""What the options are called in one session, on its command line and in what is said of them.

The plugin is loaded in every pytest run of an environment, so its options are called `--qb-NAME` there and get in
nobody's way. Who works with them all day asks for the short names (`--NAME`) with `short_options`; every sentence of
this package has the short ones, and `as_typed` puts there what this session knows.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest

from pytest_quantbench.plugin.option_form import Option
from pytest_quantbench.plugin.options import OPTIONS

PREFIX, SHORT_PREFIX = "--qb-", "--"
SHORT_OPTIONS = "pytest_quantbench.plugin.short_options"
_NOTHING = object()  # was given; None is a value, of `--tokens all`
_SHORT_NAME = re.compile(rf"(?<![\w-])--(?=(?:{'|'.join(OPTIONS)})(?![\w-]))")


def add_options(parser: pytest.Parser, prefix: str) -> None:
    """What `pytest --help` lists under quantbench; options of either prefix fill the same values."""
    group = parser.getgroup("quantbench", "is this quantized model still good enough?")
    for name, option in OPTIONS.items():
        help_text = _SHORT_NAME.sub(prefix, option.help) + (" (repeatable)" if option.repeatable else "")
        told = {"dest": _dest(name), "help": help_text}
        group.addoption(f"{prefix}{name}", **told, **_for_argparse(f"{prefix}{name}", option))


def _for_argparse(typed: str, option: Option) -> dict[str, Any]:
    if option.switch is not None:
        return {"action": "store_const", "const": option.switch, "default": _NOTHING}
    told = {"type": _naming(typed, option.read), "metavar": option.metavar}
    return {**told, "action": "append", "default": []} if option.repeatable else {**told, "default": _NOTHING}


def _naming(typed: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """The reader of one option's value, which refuses one with the option's name as it was typed."""

    def named(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise pytest.UsageError(f"{typed} {text}: {error}") from error

    return named


def _dest(name: str) -> str:
    """Under which name pytest keeps an option's value: options that fill one setting have one value."""
    return f"qb_{OPTIONS[name].setting or name.replace('-', '_')}"


def given(config: pytest.Config) -> dict[str, Any]:
    """The values that this session's options were given, by name; those of a repeatable one as a tuple."""
    told = {name: config.getoption(_dest(name)) for name in OPTIONS}
    several = {name: tuple(value) for name, value in told.items() if OPTIONS[name].repeatable and value}
    single = {name: value for name, value in told.items() if not OPTIONS[name].repeatable and value is not _NOTHING}
    return single | several


def settings_given(config: pytest.Config) -> dict[str, Any]:
    """The fields of `Settings` that options fill as they are, with their values."""
    return {field: value for name, value in given(config).items() if (field := OPTIONS[name].setting) is not None}


def option_prefix(config: pytest.Config) -> str:
    """What this session's options begin with: `--` where it knows the short names, else `--qb-`."""
    return SHORT_PREFIX if config.pluginmanager.hasplugin(SHORT_OPTIONS) else PREFIX


def as_typed(config: pytest.Config, sentence: str) -> str:
    """A sentence with its options as they can be typed in this session."""
    return _SHORT_NAME.sub(option_prefix(config), sentence)
