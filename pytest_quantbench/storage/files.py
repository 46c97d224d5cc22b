"""Files that are written whole or not at all, and what a disk holds."""

import fcntl
import hashlib
import logging
import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO

from pytest_quantbench.errors import DiskError

GB = 1e9  # bytes, as disks and downloads are counted
log = logging.getLogger(__name__)


def free_bytes(directory: Path) -> int:
    """Free bytes where this directory is or will be."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(existing).free


def set_aside(path: Path) -> Path:
    """Move what is damaged to a name beside its own, which is returned. Raises DiskError where that cannot be done."""
    names = (path.with_name(f"damaged-{path.name}-{number}") for number in count(1))
    aside = next(name for name in names if not name.exists())
    try:
        return path.rename(aside)
    except OSError as error:
        raise DiskError(f"{path} is damaged and cannot be moved aside ({error.strerror}): delete it.") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write all or nothing: to a temporary name, flushed to disk, then renamed. Raises DiskError naming the folder.

    The temporary name is always the same, so that what a killed process left is used up by whoever writes next.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened_alone(temporary) as file:
            try:
                file.truncate(0)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise DiskError(
            f"Cannot write {path}: {error.strerror}. Choose another folder with --results, "
            f"or QUANTBENCH_CACHE for what is kept between sessions."
        ) from error


def _opened_alone(path: Path) -> IO[bytes]:
    """The file, open and locked: not what another process is writing, or has just given its own name."""
    while True:
        file = path.open("ab")
        with suppress(OSError):  # some disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
