"""What a measurement ran on: chip, memory, system, backend, versions. Timings compare only where these match."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pytest_quantbench.engines.protocol import Backend, Engine

PACKAGES = ("lm-eval", "transformers", "tokenizers", "datasets", "numpy", "scipy")  # besides the engine's own

MEMORY = Path("/proc/meminfo")
LIBRARIES = {"mlx": "MLX", "torch": "PyTorch"}  # by the engine's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What must match before two records' timings are compared."""

    chip: str
    cores: int
    memory_gb: float
    os: str
    backend: Backend
    versions: Mapping[str, str]
    engine: str = "mlx"  # records up to schema 6 do not say it: there was no other
    activations: str = "float32"  # of walks
    judges_speed: bool | None = None  # whether T1 is judged here; null: not known
    threads: int | None = None  # of the CPU that the engine computes on; null: an accelerator, or not known
    device: str = ""  # the accelerator's name; empty: a CPU

    @property
    def runs_on(self) -> str:
        """`MLX 0.32.4 on metal`, `PyTorch 2.13.0 on cuda with bfloat16 activations`."""
        version = self.versions.get(self.engine, "")
        rounded = "" if self.activations == "float32" else f" with {self.activations} activations"
        return f"{LIBRARIES.get(self.engine, self.engine)} {version}".rstrip() + f" on {self.backend}{rounded}"


def describe(engine: Engine) -> Machine:
    """This machine and what runs models on it, with the versions of the packages that the figures depend on."""
    return Machine(
        chip=_chip(),
        cores=os.cpu_count() or 1,
        memory_gb=round(memory_bytes() / 1e9, 1),
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        backend=engine.backend,
        versions=versions(engine),
        engine=engine.name,
        activations=engine.activations,
        judges_speed=engine.judges_speed,
        threads=engine.threads,
        device=engine.device_name,
    )


def versions(engine: Engine) -> dict[str, str]:
    """Python's version, and those of the packages."""
    names = ("pytest-quantbench", *engine.packages, *PACKAGES)
    return {"python": platform.python_version()} | {name: version_of(name) for name in names}


def memory_bytes() -> int:
    """Physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_bytes() -> int:
    """What the system can give to programs without swapping, as Linux tells (proc(5), MemAvailable); elsewhere all
    physical memory.
    """
    lines = MEMORY.read_text().splitlines() if MEMORY.exists() else []
    told = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(told[0]) if told else memory_bytes()


@cache
def version_of(package: str) -> str:
    """An installed package's version, or that it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def _chip() -> str:
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
