"""Energy that the machine took, where its platform tells: joules since some time ago, to take differences of.

On a CPU: the counters of Linux's power capping (RAPL), of the processors' packages and of memory; most systems let only
root read them. On CUDA: the driver's counter of the device, of chips from Volta on. On Metal: the package
zeus-apple-silicon, where it is installed. What the machine would take idle is part of all of them. Where nothing tells,
there is no meter, and nothing is said.
"""

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from pytest_quantbench.engines.protocol import Backend

POWERCAP = Path("/sys/class/powercap")
DRIVER = "libnvidia-ml.so.1"
APPLE = "zeus_apple_silicon"
PARTS = ("cpu_total_mj", "gpu_mj", "dram_mj", "ane_mj")  # of Apple's chip, none within another


class Meter(Protocol):
    """What tells how much energy was taken."""

    of: str  # what, in words

    def joules(self) -> float | None:
        """Since some time ago, the same every time; None where it tells no more."""


def meter_of(backend: Backend) -> Meter | None:
    """What tells of the hardware that arrays of this backend lie on; None where nothing does. Never raises."""
    return METERS[backend]()


@dataclass(slots=True, kw_only=True)
class Zone:
    """One counter of power capping: microjoules that begin anew at 0 behind `most`."""

    counter: Path
    most: int
    before: int
    sum: int = 0

    def microjoules(self) -> int:
        """Since the zone was opened. Raises OSError or ValueError where it cannot be read."""
        now = int(self.counter.read_text())
        self.sum += now - self.before if now >= self.before else now + self.most - self.before
        self.before = now
        return self.sum


@dataclass(slots=True, kw_only=True)
class PowerCap:
    """RAPL: all packages, and memory where it is counted by itself."""

    zones: Sequence[Zone]
    of: str = "the processors and their memory, by RAPL"

    def joules(self) -> float | None:
        """Of all zones. One reading in every half hour at least: a counter may begin anew once between two."""
        try:
            return sum(zone.microjoules() for zone in self.zones) / 1e6
        except (OSError, ValueError):
            return None


def _rapl() -> PowerCap | None:
    """The packages' zones, and of those within them `dram`: what else lies within is part of the package's count."""
    folders = sorted(POWERCAP.glob("intel-rapl:*")) if POWERCAP.is_dir() else []
    zones = [zone for folder in folders if (zone := _zone(folder)) is not None]
    return PowerCap(zones=zones) if zones else None


def _zone(folder: Path) -> Zone | None:
    try:
        name = (folder / "name").read_text().strip()
        if not name.startswith(("package", "dram")):
            return None
        most = int((folder / "max_energy_range_uj").read_text())
        return Zone(counter=folder / "energy_uj", most=most, before=int((folder / "energy_uj").read_text()))
    except (OSError, ValueError):
        return None


@dataclass(slots=True, kw_only=True)
class Nvml:
    """NVIDIA's driver: millijoules of one device since the driver was loaded."""

    library: Any
    device: Any
    of: str = "the accelerator, by its driver"

    def joules(self) -> float | None:
        """Of the device alone: the host's processors and fans are no part of it."""
        millijoules = ctypes.c_ulonglong()
        if self.library.nvmlDeviceGetTotalEnergyConsumption(self.device, ctypes.byref(millijoules)):
            return None
        return millijoules.value / 1e3


def _nvml() -> Nvml | None:
    """Of several, the first that CUDA_VISIBLE_DEVICES lets be seen."""
    with suppress(OSError, AttributeError):  # no driver, or an older one
        library, device = ctypes.CDLL(DRIVER), ctypes.c_void_p()
        if library.nvmlInit_v2() or _device(library, device):
            return None
        found = Nvml(library=library, device=device)
        return None if found.joules() is None else found
    return None


def _device(library: Any, device: ctypes.c_void_p) -> int:
    """Look for the device, by its number or its UUID; 0 where it was found."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    if visible and not visible.isdecimal():
        return int(library.nvmlDeviceGetHandleByUUID(visible.encode(), ctypes.byref(device)))
    return int(library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(visible or 0)), ctypes.byref(device)))


@dataclass(slots=True, kw_only=True)
class AppleChip:
    """Apple's own counters, by zeus-apple-silicon: it tells of windows of time, which are laid end to end."""

    monitor: Any
    of: str = "the chip, by Apple's counters"
    sum: float = field(default=0.0)

    def joules(self) -> float | None:
        """Of processor, graphics, memory and neural engine, as far as they are told."""
        told = self.monitor.end_window(APPLE)
        self.monitor.begin_window(APPLE)
        self.sum += sum(getattr(told, part, None) or 0 for part in PARTS) / 1e3
        return self.sum


def _apple() -> AppleChip | None:
    if find_spec(APPLE) is None:
        return None
    with suppress(RuntimeError, OSError):  # no such chip
        monitor = import_module(APPLE).AppleEnergyMonitor()
        monitor.begin_window(APPLE)
        return AppleChip(monitor=monitor)
    return None


METERS: Mapping[Backend, Callable[[], Meter | None]] = MappingProxyType(
    {"cpu": _rapl, "cuda": _nvml, "metal": _apple, "mps": _apple}
)
