"""JSON by its hash: files that hold what they were given, with a hash of all their values, so that damage is seen; and
the hash of values that a key is made of.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pytest_quantbench.errors import RecordError
from pytest_quantbench.storage.files import set_aside

log = logging.getLogger(__name__)

T = TypeVar("T")
SEAL = "sha256"


def json_sha256(values: object, *, sort_keys: bool = True) -> str:
    """SHA-256 of values as JSON, whose tables are sorted by name. Raises TypeError for what JSON does not have."""
    return hashlib.sha256(json.dumps(values, sort_keys=sort_keys).encode()).hexdigest()


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
    """Of the JSON as it is written, which spells some numbers otherwise than `json_sha256` does."""
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
