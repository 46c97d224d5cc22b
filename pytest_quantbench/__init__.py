"""Is this quantized language model still good enough, and how sure are we?

The pipeline, one way: `catalog` says which cells (model × recipe) there are; `fetch` brings the weights to disk, and
`checkpoints` opens them; `compress` encodes them with one of the `quantizers`; one of the `engines` walks the result
layer by layer for the `measures`, which return raw samples; `judge` turns samples, reference samples and a criterion
into pass, fail, undecided or anomalous, with `stats`; `record` keeps everything and `report` shows it. `bench` is one
cell from start to finish, `plugin` makes each a pytest item, `cli` is the command line. docs/architecture.md has the
picture.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_quantbench.bench.cell import Cell
    from pytest_quantbench.bench.subject import Subject
    from pytest_quantbench.catalog.models import Model
    from pytest_quantbench.catalog.recipes import Recipe, recipe
    from pytest_quantbench.catalog.settings import Settings
    from pytest_quantbench.errors import QuantbenchError
    from pytest_quantbench.judge.verdict import Verdict
    from pytest_quantbench.record.folder import read_all as read_records
    from pytest_quantbench.record.schema import Record
    from pytest_quantbench.stats.estimates import Interval

__all__ = [
    "Cell",
    "Interval",
    "Model",
    "QuantbenchError",
    "Recipe",
    "Record",
    "Settings",
    "Subject",
    "Verdict",
    "read_records",
    "recipe",
]

_HOMES = {
    "Cell": "bench.cell:Cell",
    "Interval": "stats.estimates:Interval",
    "Model": "catalog.models:Model",
    "QuantbenchError": "errors:QuantbenchError",
    "Recipe": "catalog.recipes:Recipe",
    "Record": "record.schema:Record",
    "Settings": "catalog.settings:Settings",
    "Subject": "bench.subject:Subject",
    "Verdict": "judge.verdict:Verdict",
    "read_records": "record.folder:read_all",
    "recipe": "catalog.recipes:recipe",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when asked for: the plugin is loaded in every pytest run of the environment."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)
