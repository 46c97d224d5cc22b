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
    from pytest_quantbench.bench.cell import Cell, Subject
    from pytest_quantbench.catalog.models import Model
    from pytest_quantbench.catalog.recipes import Recipe, recipe
    from pytest_quantbench.catalog.settings import Settings
    from pytest_quantbench.judge.verdict import Verdict
    from pytest_quantbench.record.schema import Record

__all__ = ["Cell", "Model", "Recipe", "Record", "Settings", "Subject", "Verdict", "recipe"]

_HOMES = {
    "Cell": "bench.cell",
    "Subject": "bench.cell",
    "Model": "catalog.models",
    "Recipe": "catalog.recipes",
    "recipe": "catalog.recipes",
    "Record": "record.schema",
    "Verdict": "judge.verdict",
    "Settings": "catalog.settings",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when asked for: the plugin is loaded in every pytest run of the environment."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
