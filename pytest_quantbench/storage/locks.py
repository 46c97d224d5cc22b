"""One session at a time: locks that the system takes back from a process that died."""

import fcntl
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pytest_quantbench.progress import now_and_then, say

IN_USE = Path("locks", "in-use")  # of a cache: held together by all sessions that work in it
POLL_SECONDS = 0.2
MOST_SIGNED = 1000  # characters
log = logging.getLogger(__name__)
_mine: set[Path] = set()  # held by this process, which does not wait for itself


@contextmanager
def held(path: Path, doing: str, *, waits: bool = True) -> Iterator[None]:
    """Hold the lock at `path` meanwhile. Who has to wait says at once for whom and for what, and then now and then.
    With `waits` false nobody does: what another holds is not held.

    The file is left behind: were it deleted, two could hold locks of one name. It says who holds it. A folder that
    cannot be written has nobody at work in it, and needs no lock.
    """
    file = None if path in _mine else _opened(path)
    if file is None:
        yield
        return
    with file:
        ours = True
        with suppress(OSError):  # some disks have no locks
            ours = _locked(file, doing, waits)
        if not ours:
            yield
            return
        _mine.add(path)
        try:
            yield
        finally:
            _mine.remove(path)


def _locked(file: IO[str], doing: str, waits: bool) -> bool:
    """Lock a file as soon as it can be had, and sign it; or, without waiting, say that it cannot."""
    began, due, told = time.monotonic(), now_and_then(), False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waits:
                return False
            if not told:
                log.warning("%s waited for %s.", doing[:1].upper() + doing[1:], _holder(file))
            if not told or due():
                say(f"{doing} waits for {_holder(file)}, {time.monotonic() - began:.0f} s so far")
            told = True
            time.sleep(POLL_SECONDS)
        else:
            if told:
                say(f"{doing} goes on after {time.monotonic() - began:.0f} s")
            _sign(file, doing)
            return True


def _sign(file: IO[str], doing: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = f"process {os.getpid()} on {platform.node()}, which is {doing} since {now}"
    os.ftruncate(file.fileno(), 0)
    os.write(file.fileno(), told.encode())  # at once: on a full disk closing the file would fail


def _holder(file: IO[str]) -> str:
    """Who holds a lock, as it has signed: not at all in the moment between locking and signing."""
    file.seek(0)
    return file.read(MOST_SIGNED) or "another session"


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
    """The lock's file; None where it cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError:
        return None
