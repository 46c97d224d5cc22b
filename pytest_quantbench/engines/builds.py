"""What this machine computes on, and for what the libraries that are installed were built: looked up in files and in
what packages say of themselves, for whoever chooses an engine without importing one.
"""

import importlib.util
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NVIDIA = Path("/proc/driver/nvidia/version")  # which its driver puts there, on Linux
MLX_WITH_CUDA = ("mlx-cuda-12", "mlx-cuda-13", "mlx-cuda")  # what brings MLX's own library for CUDA
HAS_DEVICES = re.compile(r"^(cuda|hip)\b[^=\n]*= *['\"]", re.MULTILINE)  # in PyTorch's version.py; else it is None


def has_metal() -> bool:
    """Whether this is a Mac with a processor of Apple's, which MLX and PyTorch compute on."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def has_nvidia() -> bool:
    """Whether NVIDIA's driver is loaded."""
    return NVIDIA.exists()


def torch_has_cuda() -> bool:
    """Whether the PyTorch that is installed was built for CUDA, or for AMD's HIP, which it calls so; true as well where
    it does not say for what it was built.
    """
    found = importlib.util.find_spec("torch")
    said = None if found is None or found.origin is None else Path(found.origin).with_name("version.py")
    if said is None or not said.is_file():
        return found is not None
    return bool(HAS_DEVICES.search(said.read_text(encoding="utf-8")))


def mlx_has_cuda() -> bool:
    """Whether MLX's library for CUDA is installed."""
    return any(map(_is_there, MLX_WITH_CUDA))


def _is_there(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
