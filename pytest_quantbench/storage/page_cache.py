"""Files in the system's page cache: given back, read into it, and how much of them is there.

What a file's reading costs depends on whether the system still has its pages. `drop` asks for them to be given back
(posix_fadvise(2), POSIX_FADV_DONTNEED); pages that another process has mapped stay, so whoever needs to know looks with
`resident_share`, which asks mincore(2) page by page.
"""

import ctypes
import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pytest_quantbench.errors import DiskError

AT_ONCE = 2**22  # bytes of a read
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
PAGES = "1"  # of files, and not what is known of folders
IS_THERE = 1  # the bit of a page that is in memory


def can_drop() -> bool:
    """Whether this system takes the request for single files: Linux does, macOS and Windows do not."""
    return hasattr(os, "posix_fadvise")


def drop(files: Sequence[Path]) -> None:
    """Ask the system to give these files' pages back. What was just written goes to disk first, or it would stay."""
    for file in files:
        opened = os.open(file, os.O_RDONLY)
        try:
            os.fsync(opened)
            os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(opened)


def drop_all() -> None:
    """Have the system give back the pages of every file, which takes root. Raises DiskError where it does not."""
    os.sync()
    try:
        DROP_CACHES.write_text(PAGES)
    except OSError as error:
        raise DiskError(
            f"{DROP_CACHES} cannot be written ({error.strerror}): that takes Linux and root. Leave out --drop-caches; "
            f"the model's own files are given back without it."
        ) from error


def read(files: Sequence[Path]) -> None:
    """Read these files to the end, so that the system has them in memory, as far as there is room."""
    held = bytearray(AT_ONCE)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(held):
                pass


def resident_share(files: Sequence[Path]) -> float | None:
    """How much of these files lies in memory, from 0 to 1; None where the system does not tell."""
    if not sys.platform.startswith(("linux", "darwin")):
        return None
    found = [_resident(file) for file in files if file.stat().st_size]
    pages = sum(pages for _, pages in found)
    return sum(there for there, _ in found) / pages if pages else 0.0


def _resident(file: Path) -> tuple[int, int]:
    """The pages of a file that are in memory, and how many it has. Mapping it brings none there."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        told = np.zeros(pages, np.uint8)
        start = np.frombuffer(mapped, np.uint8)
        failed = _mincore()(start.ctypes.data, len(mapped), told.ctypes.data)
        del start  # which keeps the map open
    if failed:
        raise DiskError(f"The system does not say how much of {file} is in memory.")
    return int(np.count_nonzero(told & IS_THERE)), pages


def _mincore() -> "ctypes._NamedFuncPointer":
    function = ctypes.CDLL(None).mincore
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return function
