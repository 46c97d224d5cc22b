"""What a measurement ran on: chip, memory, system, backend, versions. Timings compare only where these match."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

PACKAGES = ("pytest-quantbench", "mlx", "mlx-lm", "lm-eval", "transformers", "tokenizers", "datasets", "numpy", "scipy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What must match before two records' timings are compared."""

    chip: str
    cores: int
    memory_gb: float
    os: str
    backend: Literal["metal", "cuda", "cpu"]
    versions: Mapping[str, str]


@cache
def backend() -> Literal["metal", "cuda", "cpu"]:
    """The MLX backend that arrays land on by default."""
    import mlx.core as mx

    if mx.default_device() == mx.Device(mx.cpu, 0):
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


@cache
def describe() -> Machine:
    """This machine, with the versions of the packages that the figures depend on."""
    return Machine(
        chip=_chip(),
        cores=os.cpu_count() or 1,
        memory_gb=round(memory_bytes() / 1e9, 1),
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        backend=backend(),
        versions={"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    )


def memory_bytes() -> int:
    """Physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _chip() -> str:
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
