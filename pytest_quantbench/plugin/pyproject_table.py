"""`[tool.quantbench]` of the user's pyproject.toml: where it is found, and what its keys may hold."""

import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_quantbench.catalog.candidates import NAME
from pytest_quantbench.catalog.criteria import METRICS, PARTS, limit_key
from pytest_quantbench.catalog.recipes import LEVEL_NAMES
from pytest_quantbench.catalog.settings import ENVIRONMENT
from pytest_quantbench.errors import QuantbenchError, unknown

SECTION = "tool.quantbench"
LIKE_A_LEVEL = re.compile(r"(int|bf|kv)\d+(-|$)")  # no candidate is meant by that


def read_table(*starts: Path) -> tuple[Path, dict[str, Any]]:
    """`[tool.quantbench]` of the nearest pyproject.toml that has one, in a starting folder or above it, and the folder
    that it lies in; nothing, and the first starting folder, where there is none.

    Raises QuantbenchError for one that cannot be read as TOML, has a key that nothing reads, or a value of a kind that
    its key does not take.
    """
    for folder in dict.fromkeys(folder for start in starts for folder in (start, *start.parents)):
        pyproject = folder / "pyproject.toml"
        if not pyproject.is_file():
            continue
        table = _section(pyproject)
        try:
            check_kinds(table)
            check_report(folder, table)
        except QuantbenchError as error:
            raise type(error)(f"{error} This is in {pyproject}.") from error
        if table:
            return folder, table
    return starts[0], {}


def _section(pyproject: Path) -> dict[str, Any]:
    """The table of one file, empty where it has none. Raises QuantbenchError where it or `tool` is no table."""
    try:
        found = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:  # ValueError: not TOML, not UTF-8, or a number too long
        raise QuantbenchError(f"{pyproject} cannot be read as TOML: {error}.") from error
    named = "tool"
    for key in SECTION.split("."):
        found = found.get(key, {})
        if not isinstance(found, dict):
            raise QuantbenchError(f"{named} = {found!r} in {pyproject}: give a table, [{SECTION}].")
        named = SECTION
    return found


def _is_text(value: object) -> bool:
    # No path and no Hub id has a NUL character, and the system's calls do not take one.
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_limit(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value == "informational"
    return abs(value) <= sys.float_info.max  # false of NaN and infinity, and of integers that no float can hold


def _is_above_zero(value: object) -> bool:
    return isinstance(value, int | float) and _is_limit(value) and value > 0


ACTIVATIONS = ("float32", "bfloat16")
# By key: what its value has to fulfil, and how that is told.
KINDS: Mapping[str, tuple[Callable[[object], bool], str]] = MappingProxyType(
    {
        "activations": (lambda value: value in ACTIVATIONS, " or ".join(map(repr, ACTIVATIONS))),
        "candidates": (
            _is_table,
            f"limits for all candidates, and tables of those for one, [{SECTION}.candidates.NAME]",
        ),
        "cost": (_is_table, "a table, such as { price_per_hour = 2.49, currency = 'USD', volume_tokens = 1000000000 }"),
        "engine": (_is_text, "the name of an engine, such as 'torch', or 'auto'"),
        "criteria": (_is_table, f"tables of limits, such as [{SECTION}.criteria.int4]"),
        "models": (_are_texts, "a list of directories or Hub ids, such as ['path/to/model', 'owner/name']"),
        "report": (_is_text, "the path of a file, such as 'docs/quantization.md'"),
    }
)


def _expect(fits: Callable[[object], bool], value: object, section: str, key: str, kind: str) -> None:
    if not fits(value):
        raise QuantbenchError(f"[{section}] {key} = {value!r}: give {kind}.")


def check_kinds(table: Mapping[str, Any]) -> None:
    """Raise UnknownNameError for a key of `[tool.quantbench]` that nothing reads, and QuantbenchError for a value of
    another kind than its key takes, down to the limits. Whether the names exist is for `check_criteria` and
    `candidate_limits`.
    """
    for key, value in table.items():
        if key not in KINDS:
            raise unknown(f"key in [{SECTION}]", key, tuple(KINDS))
        fits, kind = KINDS[key]
        _expect(fits, value, SECTION, key, kind)
    for selector, limits in table.get("criteria", {}).items():
        _expect(_is_table, limits, f"{SECTION}.criteria", selector, "a table, such as { perplexity_delta = 0.5 }")
        _expect_limits(limits, f"{SECTION}.criteria.{selector}")
    _check_cost(table.get("cost", {}))
    for name, value in table.get("candidates", {}).items():
        of_one = _is_table(value) and name not in METRICS
        limits, section = (value, f"candidates.{name}") if of_one else ({name: value}, "candidates")
        _expect_limits(limits, f"{SECTION}.{section}")


def _expect_limits(limits: Mapping[str, Any], section: str) -> None:
    for metric, limit in limits.items():
        kind = "a number or 'informational'"
        if _is_table(limit):
            kind += f'; the key of one text or task stands in quotes, "{limit_key(metric, next(iter(limit), "NAME"))}"'
        _expect(_is_limit, limit, section, metric, kind)


# What `[tool.quantbench.cost]` may have, as `KINDS` above.
COST: Mapping[str, tuple[Callable[[object], bool], str]] = MappingProxyType(
    {
        "price_per_hour": (_is_above_zero, "a number above 0"),
        "currency": (_is_text, "a currency, such as 'USD'"),
        "volume_tokens": (_is_above_zero, "a number of tokens"),
    }
)


def _check_cost(table: Mapping[str, Any]) -> None:
    section = f"{SECTION}.cost"
    for key, value in table.items():
        if key not in COST:
            raise unknown(f"key in [{section}]", key, tuple(COST))
        _expect(COST[key][0], value, section, key, COST[key][1])


def session_defaults(table: Mapping[str, Any]) -> dict[str, str]:
    """The settings that `[tool.quantbench]` gives where no option does: the engine, unless the environment names one,
    and the activations. Raises QuantbenchError for an engine that is not there.
    """
    found = {key: table[key] for key in ("activations", "engine") if key in table}
    if os.environ.get(ENVIRONMENT):
        found.pop("engine", None)
    if "engine" in found:
        from pytest_quantbench import engines

        try:
            engines.chosen(found["engine"])
        except QuantbenchError as error:
            raise type(error)(f"[{SECTION}] engine = {found['engine']!r}: {error}") from error
    return found


def check_report(folder: Path, table: Mapping[str, Any]) -> None:
    """Raise QuantbenchError where `report` is a folder, or would lie below a file."""
    if "report" not in table:
        return
    path = folder / table["report"]
    if os.path.isdir(path):
        raise QuantbenchError(f"[{SECTION}] report = {table['report']!r}: this is a folder; give the path of a file.")
    for parent in path.parents:
        if os.path.isfile(parent):
            raise QuantbenchError(f"[{SECTION}] report = {table['report']!r}: {parent} is a file, not a folder.")


def beside(folder: Path, source: str) -> str:
    """A model's source as it stands in a file of this folder: paths are relative to that."""
    return str(folder / source) if source.startswith(".") or os.path.exists(folder / source) else source


def check_criteria(table: Mapping[str, Any], models: "list[str]", recipes: "list[str]") -> str:
    """The selectors that are no model, level or recipe of this session, and may be a candidate or a model of another:
    `q4, in4 (int4?)`, with what each may have been meant to be; empty where all are known.

    Raises UnknownNameError for a selector that can be neither, and for a metric that does not exist.
    """
    selectors = [*models, *recipes, *LEVEL_NAMES, *(f"{model}-{recipe}" for model in models for recipe in recipes)]
    unmatched = []
    for selector, limits in table.items():
        _check_metrics(limits, f"{SECTION}.criteria.{selector}")
        if selector in selectors:
            continue
        if not _may_be_of_another_session(selector, models):
            raise unknown(f"selector in [{SECTION}.criteria]", selector, [*models, *recipes, "MODEL-RECIPE"])
        close = get_close_matches(selector, selectors, 1)
        unmatched.append(f"{selector} ({close[0]}?)" if close else selector)
    return ", ".join(unmatched)


def _may_be_of_another_session(selector: str, models: "list[str]") -> bool:
    """Whether a candidate can be called so, or MODEL-CANDIDATE: not what reads like a level or a recipe."""
    names = [selector, *(selector.removeprefix(f"{model}-") for model in models)]
    return bool(NAME.fullmatch(selector)) and not any(map(LIKE_A_LEVEL.match, names))


def candidate_limits(table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Of `[tool.quantbench.candidates]`: the limits for all candidates, and those for one, by its name.

    Raises UnknownNameError for a metric that does not exist, QuantbenchError for what no candidate can be called.
    """
    one = {name: limits for name, limits in table.items() if _is_table(limits)}  # none is called as a metric: refused
    every = {metric: limit for metric, limit in table.items() if metric not in one}
    _check_metrics(every, f"{SECTION}.candidates")
    for name, limits in one.items():
        if not NAME.fullmatch(name):
            raise QuantbenchError(f"[{SECTION}.candidates.{name!r}]: no candidate can be called so.")
        _check_metrics(limits, f"{SECTION}.candidates.{name}")
    return every, one


def _check_metrics(limits: Mapping[str, Any], section: str) -> None:
    for key in limits:
        metric, dot, of = key.partition(".")
        if metric not in METRICS:
            raise unknown(f"metric in [{section}]", key, list(METRICS))
        kind = PARTS.get(METRICS[metric].check)
        if dot and (kind is None or not of):
            way_out = f"give the name of a {kind} behind the dot" if kind else f"{metric} has no texts or tasks"
            raise QuantbenchError(f"[{section}] {key!r}: {way_out}.")
