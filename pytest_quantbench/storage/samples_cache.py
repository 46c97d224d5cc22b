"""Samples kept between sessions, so that what was measured is not measured again.

A file is named by a hash of everything that its samples depend on: the artifact's key, the text or the questions with
their protocol, the measure's version, machine and libraries. It begins with the hash of what follows: an npz of the
arrays, with all other numbers and names in MessagePack, which holds infinities too. What is damaged is moved aside,
told, and measured again.
"""

import hashlib
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from pytest_quantbench.errors import DiskError
from pytest_quantbench.storage.cache import SAMPLES
from pytest_quantbench.storage.files import set_aside, write_atomically
from pytest_quantbench.storage.sealed_json import json_sha256

S = TypeVar("S")
log = logging.getLogger(__name__)
FORMAT = 2  # raised when the layout of a file changes


def key_of(content: Mapping[str, Any]) -> str:
    """Hash of all that samples depend on."""
    return json_sha256([FORMAT, content])[:32]


def save(cache: Path, key: str, samples: object) -> None:
    """Write samples, a dataclass of numbers, strings and arrays. Raises DiskError where the cache cannot be written."""
    arrays: list[Any] = []

    def place(value: Any) -> int:
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{type(value)} in samples")
        arrays.append(value)
        return len(arrays) - 1

    told = msgspec.msgpack.encode(samples, enc_hook=place)
    packed = io.BytesIO()
    np.savez(packed, told=np.frombuffer(told, np.uint8), **{str(i): array for i, array in enumerate(arrays)})
    content = packed.getvalue()
    write_atomically(SAMPLES.of(cache, key), hashlib.sha256(content).digest() + content)


def load(cache: Path, key: str, kind: type[S]) -> S | None:
    """The samples of this key; None where there are none, or damaged ones, which are moved aside."""
    path = SAMPLES.of(cache, key)
    try:
        whole = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        log.warning("Kept samples cannot be read (%s): measured again.", error)
        return None
    digest, content = whole[:32], whole[32:]
    if hashlib.sha256(content).digest() == digest:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            told = arrays["told"].tobytes()
            return msgspec.msgpack.decode(told, type=kind, dec_hook=lambda _, place: arrays[str(place)])
    try:
        log.warning("Kept samples were damaged: moved to %s, measured again.", set_aside(path))
    except DiskError as error:
        log.warning("Kept samples are measured again. %s", error)
    return None
