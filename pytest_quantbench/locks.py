"""One session at a time: locks that the system takes back from a process that died."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

IN_USE = Path("locks", "in-use")  # of a cache: held together by all sessions that work in it
log = logging.getLogger(__name__)
_mine: set[Path] = set()  # held by this process, which does not wait for itself


@contextmanager
def held(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock at `path` meanwhile, after waiting for whoever is `doing` the same. The file is left behind: were
    it deleted, two could hold locks of one name. A folder that cannot be written has nobody at work in it, and needs
    no lock.
    """
    file = None if path in _mine else _opened(path)
    if file is None:
        yield
        return
    with file:
        with suppress(OSError):  # some disks have no locks
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning("Another session is %s: waiting for it.", doing)
                fcntl.flock(file, fcntl.LOCK_EX)
        _mine.add(path)
        try:
            yield
        finally:
            _mine.remove(path)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Say that this process is at work, as others may do at the same time."""
    file = _opened(path)
    if file is None:
        yield
        return
    with file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def nobody(path: Path) -> Iterator[bool]:
    """Whether nobody is at work, in which case nobody begins meanwhile."""
    file = _opened(path)
    if file is None:
        yield True
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError as error:  # some disks have no locks
            free = not isinstance(error, BlockingIOError)
        yield free


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Wait until no other process works in a folder, and keep others waiting, without a file for it. A disk without
    locks is no obstacle.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _opened(path: Path) -> IO[str] | None:
    """The lock's file, which nothing is written to; None where it cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError:
        return None
