"""The accelerator that models run on, as its driver tells. No part of a machine's description: clocks vary by the hour,
and machines are compared.

NVIDIA's driver is asked by `nvidia-smi`. Apple's graphics processor is a part of its chip, has the machine's memory and
the system's driver, and tells no clocks.
"""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pytest_quantbench.engines.protocol import Backend

QUERY = ("name", "driver_version", "memory.total", "clocks.sm", "clocks.max.sm", "clocks.mem")
MOST_SECONDS = 10.0  # that a driver may take to answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """The accelerator that it ran on, as its driver tells; clocks in MHz. Null: the driver does not tell."""

    name: str
    driver: str | None = None
    memory_gb: float | None = None
    clock_mhz: float | None = None  # of the processor, while it was asked
    most_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None


def accelerator(backend: Backend) -> Accelerator | None:
    """What arrays of this backend lie on; None on a CPU, and where no driver answers. Never raises."""
    return ASKED[backend]()


def _none() -> None:
    """A CPU."""


def _nvidia() -> Accelerator | None:
    """Of several, the first that CUDA_VISIBLE_DEVICES lets be seen."""
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    told = (visible and _told([*command, f"--id={visible}"])) or _told(command)
    rows = [[field.strip() for field in line.rsplit(",", len(QUERY) - 1)] for line in told.splitlines()]
    name, driver, *numbers = next((row for row in rows if len(row) == len(QUERY) and row[0]), [""] * len(QUERY))
    if not name:
        return None
    mebibytes, clock, most, memory = map(_number, numbers)
    return Accelerator(
        name=name,
        driver=None if driver.startswith("[") else driver,
        memory_gb=None if mebibytes is None else round(mebibytes * 2**20 / 1e9, 1),
        clock_mhz=clock,
        most_clock_mhz=most,
        memory_clock_mhz=memory,
    )


def _apple() -> Accelerator | None:
    """By the chip's name, with how many cores its graphics processor has."""
    chip = _told(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]).strip()
    memory = _number(_told(["/usr/sbin/sysctl", "-n", "hw.memsize"]).strip())
    cores = _graphics_cores(_told(["/usr/sbin/system_profiler", "SPDisplaysDataType", "-json"]))
    if not chip:
        return None
    return Accelerator(
        name=f"{chip}, {cores} graphics cores" if cores else chip,
        driver=f"macOS {platform.mac_ver()[0]}",
        memory_gb=None if memory is None else round(memory / 1e9, 1),
    )


def _graphics_cores(told: str) -> str:
    """As system_profiler has them in its JSON; empty where it has none."""
    try:
        displays = json.loads(told)["SPDisplaysDataType"]
        return next((str(each["sppci_cores"]) for each in displays if "sppci_cores" in each), "")
    except (ValueError, KeyError, TypeError):
        return ""


ASKED: Mapping[Backend, Callable[[], Accelerator | None]] = MappingProxyType(
    {"cpu": _none, "cuda": _nvidia, "metal": _apple, "mps": _apple}
)


def _told(command: Sequence[str]) -> str:
    """What a command prints; empty where there is none, it fails, or takes too long. It prints to a file: whatever it
    started may hold a pipe open when it is gone.
    """
    with tempfile.TemporaryFile() as printed:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.DEVNULL,
                timeout=MOST_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError, ValueError):
            return ""
        printed.seek(0)
        return printed.read().decode(errors="replace")


def _number(text: str) -> float | None:
    """None for `[N/A]`, `[Not Supported]` and whatever else is no number."""
    return float(text) if text.replace(".", "", 1).isdecimal() else None
