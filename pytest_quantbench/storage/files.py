"""Files that are written whole or not at all, and what a disk holds."""

import hashlib
import os
import shutil
from itertools import count
from pathlib import Path

from pytest_quantbench.errors import DiskError
from pytest_quantbench.storage.locks import held_for_renaming

GB = 1e9  # bytes, as disks and downloads are counted


def free_bytes(directory: Path) -> int:
    """Free bytes where this directory is or will be."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(existing).free


def aside_name(name: str, number: int | str) -> str:
    """The name of what was damaged, for the so many-th time, when it has been set aside."""
    return f"damaged-{name}-{number}"


def set_aside(path: Path) -> Path:
    """Move what is damaged to a name beside its own, which is returned. Raises DiskError where that cannot be done."""
    names = (path.with_name(aside_name(path.name, number)) for number in count(1))
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
        with held_for_renaming(temporary) as file:
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


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's content, which is read in blocks. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def git_sha1(file: Path) -> str:
    """The SHA-1 by which git, and the Hub for small files, knows a file's content. Raises OSError."""
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        start = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        return hashlib.file_digest(opened, lambda: start).hexdigest()
