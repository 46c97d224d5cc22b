"""Where PyTorch computes: which device a machine has, and whether something fits into its memory."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pytest_quantbench.engines import builds
from pytest_quantbench.engines.bandwidth import MOST_BYTES, rate, size
from pytest_quantbench.engines.machine import available_bytes
from pytest_quantbench.errors import QuantbenchError, first_line

log = logging.getLogger(__name__)
DEVICES = ("cuda", "mps", "cpu")  # the first that is there is taken


def available() -> list[str]:
    """The kinds of devices that this build of PyTorch can compute on here."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name in DEVICES if there[name]]


def chosen(name: str | None = None) -> torch.device:
    """The device of this name, `cuda`, `mps` or `cpu`; None: the best that is there, with a warning where a CUDA device
    lies idle for want of another build.

    Raises QuantbenchError for one that PyTorch does not have here, saying whether the build or the machine lacks it.
    """
    there = available()
    if name is None and there == ["cpu"] and builds.has_nvidia():
        log.warning("There is an NVIDIA driver, and models run on the CPU all the same: %s", _why_not("cuda"))
    kind, _, number = (name or there[0]).partition(":")
    if kind not in DEVICES:
        raise QuantbenchError(f"PyTorch is to compute on {name!r}. Choose from: {', '.join(DEVICES)}.")
    if kind not in there:
        raise QuantbenchError(
            f"PyTorch was asked to compute on {kind} and cannot: {_why_not(kind)} Here it has: {', '.join(there)}."
        )
    if number:
        raise QuantbenchError(
            f"PyTorch was asked to compute on {name}, and takes a kind alone: {', '.join(there)}. Which of several "
            f"CUDA devices that is says the environment variable CUDA_VISIBLE_DEVICES."
        )
    return torch.device(kind)


def sum_in_float32() -> None:
    """Have products of bfloat16 matrices on CUDA add up in float32 to the end, which PyTorch does not by default where
    a sum is done in parts.
    """
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def _why_not(kind: str) -> str:
    """What is missing, with what would help."""
    if kind == "mps":
        return "this is no Mac with Metal, or PyTorch was built without it."
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} is built for CPUs only. Install a build with CUDA (see pytorch.org), or leave "
            f"out the device."
        )
    return f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, but no driver or device answers."


def wait(device: torch.device) -> None:
    """Until the device has done what it was told to."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def read_bytes_per_second(device: torch.device, held: int) -> float:
    """How fast PyTorch reads so many bytes there, on its threads: sums of an array."""
    on_cpu = device.type == "cpu"
    sums = 1 if on_cpu else 8  # an accelerator is asked once for several: asking takes time, too
    most = MOST_BYTES * (1 if on_cpu else 8)
    numbers = torch.ones(size(held, most, free_bytes(device)) // 8, dtype=torch.int64, device=device)

    def read() -> None:
        for _ in range(sums):
            numbers.sum()
        wait(device)

    return rate(read, sums * numbers.nbytes)


def free_bytes(device: torch.device) -> int:
    """The memory that arrays can still take there; on a CPU and on MPS what the system has to give."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch's own, for reuse
        return int(free + held)
    return available_bytes()


def need(device: torch.device, needed_bytes: int, what: str, way_out: str) -> None:
    """Raise QuantbenchError where `what` does not fit into the device's memory, with the numbers and the way out."""
    free = free_bytes(device)
    if needed_bytes > free:
        raise QuantbenchError(
            f"{what} takes {needed_bytes / 1e9:.2f} GB, and {device} has {free / 1e9:.2f} GB left. {way_out}"
        )


@contextmanager
def float32_sums() -> Iterator[None]:
    """Have products of bfloat16 matrices add up in float32 on CUDA, where parts of a long sum are else added in
    bfloat16.
    """
    on_cuda = torch.backends.cuda.matmul
    before = on_cuda.allow_bf16_reduced_precision_reduction
    on_cuda.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        on_cuda.allow_bf16_reduced_precision_reduction = before


@contextmanager
def within(device: torch.device, what: str, way_out: str) -> Iterator[None]:
    """Raise QuantbenchError, in place of PyTorch's own error, where the device's memory ends meanwhile."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise QuantbenchError(
            f"{what} takes more memory than {device} has; {free_bytes(device) / 1e9:.2f} GB of it were left "
            f"({first_line(error)}). {way_out}"
        ) from error
