"""How an engine is found by its name, and made; which one is meant where none is named.

Engines are this package's own (`MEMBERS`), a third party's by the entry-point group `pytest_quantbench.engines`, or
named `package.module:Class`; such a class is made with `activations=`, as ours are. None is imported before it is asked
for. What is faster here is looked up without importing PyTorch or MLX.
"""

import importlib
import importlib.util
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from operator import attrgetter
from typing import cast

from pytest_quantbench.catalog.settings import AUTO, default_engine
from pytest_quantbench.engines.protocol import Activations, Engine
from pytest_quantbench.errors import QuantbenchError, unknown

GROUP = "pytest_quantbench.engines"
REQUIRED = ("name", "can", "packages", "paths_are_mlx_lms", "version", "backend", "activations", "judges_speed")
HINT = "Or name your own as package.module:Class."


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Where an engine is: its class, the package that it cannot do without, the extras that bring that package, and the
    devices of which one may be chosen behind its name, as in `torch:cpu`.
    """

    place: str
    package: str
    extras: tuple[str, ...]
    devices: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        """Whether the package is there; it is not imported."""
        return importlib.util.find_spec(self.package) is not None

    @property
    def install(self) -> str:
        """What to type where it is missing."""
        return " or ".join(f"pip install 'pytest-quantbench[{extra}]'" for extra in self.extras)


MEMBERS: Mapping[str, Member] = {
    "mlx": Member(place="pytest_quantbench.engines.mlx.engine:MlxEngine", package="mlx", extras=("cpu", "cuda")),
    "torch": Member(
        place="pytest_quantbench.engines.torch.engine:TorchEngine",
        package="torch",
        extras=("torch",),
        devices=("cpu", "cuda", "mps"),
    ),
}


def names() -> list[str]:
    """Every engine that can be asked for by its name: ours, their devices, and those that third parties registered."""
    own = list(MEMBERS) + [f"{name}:{device}" for name, each in MEMBERS.items() for device in each.devices]
    return own + sorted({point.name for point in entry_points(group=GROUP)} - set(MEMBERS))


def get(name: str | None = None, activations: Activations = "float32") -> Engine:
    """The engine of this name that walks with these activations, the same object every time. None: what the environment
    variable QUANTBENCH_ENGINE names; `auto`: see `automatic`.

    Raises UnknownNameError for a name that nobody registered, QuantbenchError where what it needs is not installed, for
    a class that is no engine, and for activations or a device that it does not have.
    """
    name = name or default_engine()
    return _made(automatic() if name == AUTO else check(name), activations)


def check(name: str) -> str:
    """The same name. Raises UnknownNameError unless it is an engine's, or written as that of a class; imports none."""
    known = names()
    own, _, device = name.partition(":")
    if own in MEMBERS and device and MEMBERS[own].devices == ():
        raise QuantbenchError(f"The engine {own!r} takes no device, as in {name!r}. Leave out ':{device}'.")
    if name not in known and (":" not in name or own in MEMBERS):
        raise unknown("engine", name, [AUTO, *known], HINT)
    return name


def automatic() -> str:
    """The engine that is faster here, of those installed: MLX on Metal, where its kernels are Apple's own; else
    PyTorch, which runs on CUDA, and on a CPU walks in less time than MLX, whose wheel for Linux has no fast products.

    Raises QuantbenchError where neither is installed.
    """
    is_metal = platform.system() == "Darwin" and platform.machine() == "arm64"
    order = ("mlx", "torch") if is_metal else ("torch", "mlx")
    for name in order:
        if name in MEMBERS and MEMBERS[name].is_installed:
            return name
    ways = " or ".join(MEMBERS[name].install for name in order if name in MEMBERS)
    raise QuantbenchError(f"No engine can run a model here: neither PyTorch nor MLX is installed. Run {ways}.")


def installed() -> list[Engine]:
    """Each of this package's engines whose library is here. Those of third parties are not among them: what somebody
    installed for another purpose must not break a check of a quantizer. They are asked for by their names.
    """
    return [get(name) for name, member in MEMBERS.items() if member.is_installed]


@cache
def _made(name: str, activations: Activations) -> Engine:
    own, _, device = name.partition(":")
    if own not in MEMBERS:
        return _foreign(name, activations)
    member = MEMBERS[own]
    if not member.is_installed:
        raise QuantbenchError(
            f"The engine {own!r} needs the package {member.package}, which is not installed. Run {member.install}, or "
            f"leave out --engine."
        )
    module, _, attribute = member.place.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise QuantbenchError(f"The engine {own!r} cannot be imported: {error}. Run {member.install}.") from error
    return cast(Engine, made(activations=activations, **({"device": device} if device else {})))


def _foreign(name: str, activations: Activations) -> Engine:
    """A third party's, registered or named as package.module:Class."""
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    module, _, attribute = points.get(name, name).partition(":")
    if not (module and attribute) or module.startswith("."):
        raise QuantbenchError(f"The engine {name!r} is not named as package.module:Class.")
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
    except (ImportError, AttributeError, SyntaxError) as error:
        raise QuantbenchError(f"The engine {name!r} cannot be imported: {error}.") from error
    if not isinstance(found, type):
        raise QuantbenchError(f"{name!r} is no engine: it is a {type(found).__name__}, not a class.")
    try:
        made = found(activations=activations)
    except TypeError as error:
        raise QuantbenchError(f"The engine {name!r} cannot be made with {activations=!r}: {error}.") from error
    if lacking := [each for each in REQUIRED if not hasattr(made, each)]:
        raise QuantbenchError(
            f"{name!r} is no engine: it lacks {', '.join(lacking)}. docs/add-an-engine.md shows what one has."
        )
    return cast(Engine, made)
