"""Is this quantized language model still good enough, and how sure are we?

The pipeline, one way: the catalogue says which cells (model × recipe) there are; `hub` brings the weights to disk;
`artifacts` encodes them with a quantizer, stores, verifies and opens them; `stream` walks a model layer by layer for
the measures, which return raw samples; `judge` turns samples, reference samples and a criterion into pass, fail or
undecided, with `stats`; `record` and `results` keep everything; `report` and `plots` show it. `bench` is one cell
from start to finish, and `plugin` makes each a pytest item.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_quantbench.bench import Cell, Subject
    from pytest_quantbench.catalog import Model
    from pytest_quantbench.recipes import Recipe, recipe
    from pytest_quantbench.record import Record
    from pytest_quantbench.settings import Settings
    from pytest_quantbench.verdict import Verdict

__all__ = ["Cell", "Model", "Recipe", "Record", "Settings", "Subject", "Verdict", "recipe"]

_HOMES = {
    "Cell": "bench",
    "Subject": "bench",
    "Model": "catalog",
    "Recipe": "recipes",
    "recipe": "recipes",
    "Record": "record",
    "Verdict": "record",
    "Settings": "settings",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when asked for: the plugin is loaded in every pytest run of the environment."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
