"""How a model is run: one folder for each library that does it, behind one protocol.

An engine is found by a name in a table, and imported when it is asked for: whoever imports this package imports none.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_quantbench.engines.registry import GROUP, MEMBERS, automatic, chosen, get, installed, names
from pytest_quantbench.errors import QuantbenchError

if TYPE_CHECKING:
    from pytest_quantbench.engines.protocol import Ability, Engine

__all__ = ["GROUP", "MEMBERS", "Engine", "automatic", "chosen", "get", "installed", "names", "need"]
ABILITIES: Mapping[Ability, str] = {
    "walk": "carry several recipes of a model through it layer by layer",
    "calibrate": "show what a layer's matrices get to see of a text",
    "kv": "hold the key-value cache in few bits",
    "batches": "time several prompts at once",
    "resident": "hold a whole model in memory and go on from a text",
}


def __getattr__(name: str) -> Any:
    """The protocol needs numpy, and is imported when asked for: what is chosen is looked up before anything is run."""
    if name != "Engine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.protocol").Engine


def need(engine: Engine, ability: Ability) -> None:
    """Raise QuantbenchError for an engine that lacks an ability."""
    if ability not in engine.can:
        others = " or ".join(name for name in MEMBERS if name != engine.name)
        raise QuantbenchError(
            f"The engine {engine.name!r} cannot {ABILITIES[ability]}. Choose another for this, such as {others}."
        )
