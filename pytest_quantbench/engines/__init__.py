"""How a model is run: one folder for each library that does it, behind one protocol.

An engine is found by a name in a table, and imported when it is asked for: whoever imports this package imports none.
"""

from collections.abc import Mapping

from pytest_quantbench.engines.protocol import Ability, Engine
from pytest_quantbench.engines.registry import GROUP, MEMBERS, automatic, check, get, installed, names
from pytest_quantbench.errors import QuantbenchError

__all__ = ["GROUP", "MEMBERS", "Engine", "automatic", "check", "get", "installed", "names", "need"]
ABILITIES: Mapping[Ability, str] = {
    "walk": "carry several recipes of a model through it layer by layer",
    "calibrate": "show what a layer's matrices get to see of a text",
    "resident": "hold a whole model in memory and go on from a text",
}


def need(engine: Engine, ability: Ability) -> None:
    """Raise QuantbenchError for an engine that lacks an ability."""
    if ability not in engine.can:
        raise QuantbenchError(f"The engine {engine.name!r} cannot {ABILITIES[ability]}. Choose another for this.")
