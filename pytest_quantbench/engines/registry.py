"""How an engine is found by its name, and made; which one is meant where none is named.

Engines are this package's own (`MEMBERS`), a third party's by the entry-point group `pytest_quantbench.engines`, or
named `package.module:Class`; such a class is made with `activations=`, as ours are, and has what the protocol has.
None is imported before it is asked for. What is faster here is looked up without importing PyTorch, MLX or numpy.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from operator import attrgetter
from types import ModuleType
from typing import TYPE_CHECKING, cast

from pytest_quantbench.catalog.settings import AUTO, ENVIRONMENT, default_engine
from pytest_quantbench.engines import builds
from pytest_quantbench.errors import QuantbenchError, unknown

if TYPE_CHECKING:
    from pytest_quantbench.engines.protocol import Activations, Engine

GROUP = "pytest_quantbench.engines"
OF_ABILITIES: Mapping[str, tuple[str, ...]] = {  # what only an engine has that can one of these
    "prove": ("walk", "calibrate"),
    "walk": ("walk", "calibrate"),
    "load": ("resident",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Where an engine is: its class, the packages that it cannot do without, those that it needs besides to compute on
    a CPU, the extras that bring them all, in what it can walk, and the devices of which one may be chosen behind its
    name, as in `torch:cpu`.
    """

    place: str
    packages: tuple[str, ...]
    extras: tuple[str, ...]
    activations: tuple[Activations, ...] = ("float32",)
    devices: tuple[str, ...] = ()
    on_cpu: tuple[str, ...] = ()

    def missing(self, device: str = "") -> list[str]:
        """The packages that are needed on this device and are not there; none is imported. Without a device: on the one
        that this machine seems to have.
        """
        on_cpu = device == "cpu" or not (device or builds.has_metal() or builds.has_nvidia())
        needed = (*self.packages, *(self.on_cpu if on_cpu else ()))
        return [name for name in needed if importlib.util.find_spec(name) is None]

    @property
    def is_installed(self) -> bool:
        """Whether all is there that it needs on this machine."""
        return not self.missing()

    @property
    def install(self) -> str:
        """What to type where it is missing."""
        return " or ".join(f"pip install 'pytest-quantbench[{extra}]'" for extra in self.extras)


MEMBERS: Mapping[str, Member] = {
    "mlx": Member(place="pytest_quantbench.engines.mlx.engine:MlxEngine", packages=("mlx",), extras=("cpu", "cuda")),
    "torch": Member(
        place="pytest_quantbench.engines.torch.engine:TorchEngine",
        packages=("torch",),
        extras=("torch",),
        activations=("float32", "bfloat16"),
        devices=("cpu", "cuda", "mps"),
        on_cpu=("numba", "llvmlite"),  # compile its kernels there
    ),
}


def names() -> list[str]:
    """Every engine that can be asked for by its name: ours, their devices, and those that third parties registered."""
    own = list(MEMBERS) + [f"{name}:{device}" for name, each in MEMBERS.items() for device in each.devices]
    return own + sorted({point.name for point in entry_points(group=GROUP)} - set(MEMBERS))


def get(name: str | None = None, activations: Activations = "float32") -> Engine:
    """The engine of this name that walks with these activations, the same object every time; see `chosen`."""
    return _made(chosen(name, activations), activations)


def chosen(name: str | None = None, activations: Activations = "float32") -> str:
    """The engine's own name. None: what the environment variable QUANTBENCH_ENGINE says; `auto`: see `automatic`. Looks
    what is installed, and imports nothing.

    Raises UnknownNameError for a name that nobody registered, QuantbenchError where what it needs is not installed, and
    for activations or a device that it does not have.
    """
    name = name or default_engine()
    if name == AUTO:
        return automatic(activations)
    own, _, device = name.partition(":")
    if (member := MEMBERS.get(own)) is None:
        if ":" not in name and name not in names():
            raise unknown("engine", name, [AUTO, *names()], _hint(name))
        return name
    if device and not member.devices:
        raise QuantbenchError(f"The engine {own!r} takes no device, as in {name!r}. Leave out ':{device}'.")
    if device and device not in member.devices:
        raise unknown("engine", name, [AUTO, *names()], _hint(name))
    if activations not in member.activations:
        able = next(other for other, each in MEMBERS.items() if activations in each.activations)
        raise QuantbenchError(
            f"The engine {own!r} walks with {member.activations[0]} activations only. Leave out --activations "
            f"{activations}, or choose --engine {able}, which has both."
        )
    if missing := member.missing(device):
        told, are = ("the package", "is") if len(missing) == 1 else ("the packages", "are")
        raise QuantbenchError(
            f"The engine {own!r} needs {told} {' and '.join(missing)}, which {are} not installed. Run "
            f"{member.install}, or choose --engine {AUTO}."
        )
    return name


def _hint(name: str) -> str:
    told = f" The environment variable {ENVIRONMENT} names it." if os.environ.get(ENVIRONMENT) == name else ""
    return f"Or name your own as package.module:Class.{told}"


def automatic(activations: Activations = "float32") -> str:
    """The engine that is faster here, of those that are installed and walk with these activations: MLX on Metal, where
    its kernels are Apple's own; else PyTorch, which runs on CUDA, and on a CPU takes less than MLX, whose wheel for
    Linux has no fast products: 1.8 times less for 512 tokens of T2 of a 135M Llama in float32 (CPU seconds of one
    thread, AVX-512), and it has quantized kernels there. Where a PyTorch that was built for CPUs alone would leave an
    NVIDIA device idle that MLX is installed for, it is MLX.

    Raises QuantbenchError where none is installed.
    """
    idle = builds.has_nvidia() and builds.mlx_has_cuda() and not builds.torch_has_cuda()
    mlx_first = builds.has_metal() or idle
    order = [each for each in (("mlx", "torch") if mlx_first else ("torch", "mlx")) if each in MEMBERS]
    able = [each for each in order if activations in MEMBERS[each].activations]
    for name in able:
        if MEMBERS[name].is_installed:
            return name
    ways = " or ".join(MEMBERS[name].install for name in able)
    missing = [name for each in able for name in MEMBERS[each].missing()]
    raise QuantbenchError(
        f"No engine can run a model here with {activations} activations: {' and '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} not installed. Run {ways}."
    )


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
    module, _, attribute = member.place.partition(":")
    made = getattr(part(own, module), attribute)
    return cast("Engine", made(activations=activations, **({"device": device} if device else {})))


def part(engine: str, module: str) -> ModuleType:
    """A module of one of our engines, which is imported when it is needed. Raises QuantbenchError where a package that
    it takes is missing or broken, with what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        way_out = f"Run {MEMBERS[engine].install}."
        raise QuantbenchError(f"The engine {engine!r} cannot be imported: {error}. {way_out}") from error


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
    if lacks := lacking(made):
        raise QuantbenchError(
            f"{name!r} is no engine: it lacks {', '.join(lacks)}. docs/add-an-engine.md shows what one has."
        )
    if made.activations != activations:
        raise QuantbenchError(
            f"The engine {name!r} was made with {activations=!r} and says that it walks with {made.activations!r}. "
            f"Choose another, or --activations {made.activations}."
        )
    return cast("Engine", made)


def lacking(made: object) -> list[str]:
    """What the protocol of engines has and an object does not; of abilities that it says it lacks nothing is asked."""
    from pytest_quantbench.engines.protocol import Decoder, Engine

    asked = [name for kind in (Engine, Decoder) for name in (*kind.__annotations__, *vars(kind)) if name[0] != "_"]
    can = getattr(made, "can", ())
    needless = {name for name, abilities in OF_ABILITIES.items() if not any(each in can for each in abilities)}
    return [name for name in dict.fromkeys(asked) if name not in needless and not hasattr(made, name)]
