"""JSON that holds what it was given, and files that are written whole or not at all."""

import fcntl
import hashlib
import logging
import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from pytest_quantbench.errors import DiskError, RecordError

T = TypeVar("T")
log = logging.getLogger(__name__)
SEAL = "sha256"


def sealed(record: object) -> bytes:
    """Indented JSON of a record, with the hash of all its values as a last field, so that damage is seen.

    Raises RecordError if a number in it is not finite: JSON would turn it into null unseen.
    """
    values = msgspec.to_builtins(record)
    assert SEAL not in values, "the seal would take this field's place"
    _refuse_non_finite(values, "$")
    return msgspec.json.format(msgspec.json.encode({**values, SEAL: _hash(values)}), indent=2) + b"\n"


def unsealed(content: bytes) -> dict[str, Any]:
    """The values of sealed JSON. Raises RecordError for what is none, or was changed since."""
    try:
        values = msgspec.json.decode(content, type=dict[str, Any])
        seal = values.pop(SEAL, None)
        known = _hash(values)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        raise RecordError(str(error)) from error
    _refuse_non_finite(values, "$")
    if seal != known:
        raise RecordError(
            "it has no hash" if seal is None else "its hash is of other values: it was changed or damaged"
        )
    return values


def _hash(values: object) -> str:
    return hashlib.sha256(msgspec.json.encode(values)).hexdigest()


def _refuse_non_finite(value: object, path: str) -> None:
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        raise RecordError(f"{path} of the record is {value}, which JSON cannot hold.")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_non_finite(item, f"{path}[{index}]")


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


def read_sealed(path: Path, kind: type[T]) -> T | None:
    """What was sealed in a file; None where there is none, or one that cannot be read or was damaged, which is told; a
    damaged one is moved aside. Raises DiskError where that cannot be done.
    """
    if not path.is_file():
        return None
    try:
        return msgspec.convert(unsealed(path.read_bytes()), kind)
    except OSError as error:
        log.warning("%s cannot be read: %s.", path, error.strerror)
    except (msgspec.MsgspecError, RecordError) as error:
        log.warning("%s was damaged (%s): moved to %s, made again.", path, error, set_aside(path))
    return None


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
