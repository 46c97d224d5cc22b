"""How a model is run: one folder for each library that does it, behind one protocol.

An engine is found by a name in a table, and imported when it is asked for: whoever imports this package imports none.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

from pytest_quantbench.engines.protocol import Ability, Activations, Engine
from pytest_quantbench.errors import QuantbenchError, unknown

__all__ = ["Engine", "get", "installed", "need"]
ABILITIES: Mapping[Ability, str] = {
    "walk": "carry several recipes of a model through it layer by layer",
    "calibrate": "show what a layer's matrices get to see of a text",
    "resident": "hold a whole model in memory and go on from a text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Where an engine is: its class, the package that it cannot do without, and the extras that bring that package."""

    place: str
    package: str
    extras: str

    @property
    def is_installed(self) -> bool:
        """Whether the package is there; it is not imported."""
        return importlib.util.find_spec(self.package) is not None


MEMBERS: Mapping[str, Member] = {
    "mlx": Member(place="pytest_quantbench.engines.mlx.engine:MlxEngine", package="mlx", extras="cpu, cuda"),
    "torch": Member(place="pytest_quantbench.engines.torch.engine:TorchEngine", package="torch", extras="torch"),
}


def get(name: str | None = None, activations: Activations = "float32") -> Engine:
    """The engine of this name that walks with these activations, the same object every time; None: the first one that
    is installed.

    Raises UnknownNameError for a name that is in no table, QuantbenchError where what it needs is not installed.
    """
    if name is None:
        name = next((each for each, member in MEMBERS.items() if member.is_installed), next(iter(MEMBERS)))
    if name not in MEMBERS:
        raise unknown("engine", name, list(MEMBERS))
    return _made(MEMBERS[name], activations)


def installed() -> list[Engine]:
    """Every engine whose package is here."""
    return [get(name) for name, member in MEMBERS.items() if member.is_installed]


def need(engine: Engine, ability: Ability) -> None:
    """Raise QuantbenchError for an engine that lacks an ability."""
    if ability not in engine.can:
        raise QuantbenchError(f"The engine {engine.name!r} cannot {ABILITIES[ability]}. Choose another for this.")


@cache
def _made(member: Member, activations: Activations) -> Engine:
    module, _, attribute = member.place.partition(":")
    try:
        return cast(Engine, getattr(importlib.import_module(module), attribute)(activations=activations))
    except ImportError as error:
        first = member.extras.partition(",")[0]
        raise QuantbenchError(
            f"No engine can run a model: {error}. Install pytest-quantbench with one of the extras {member.extras} "
            f"(on macOS without any), such as pip install 'pytest-quantbench[{first}]'."
        ) from error
