"""One at a time: locks between processes and threads, which the system takes back from a process that died.

All are `flock` on an open file or folder. `filelock` is not used for them: it has no place for who holds a lock and for
what, none for a folder, and is asked again and again just as `flock` is by who wants to say meanwhile that it waits. A
disk without locks is no obstacle, and a folder that cannot be written has nobody at work in it. No thread waits for
itself.
"""

import fcntl
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pytest_quantbench.progress import now_and_then, say

POLL_SECONDS = 0.2
MOST_SIGNED = 1000  # bytes
log = logging.getLogger(__name__)
_mine: set[tuple[int, int, int]] = set()  # what threads of this process hold: device and inode, and the thread


@contextmanager
def held(path: Path, doing: str, *, waits: bool = True) -> Iterator[bool]:
    """Hold the lock at `path` meanwhile, alone. Who has to wait says at once for whom and for what, and then now and
    then. With `waits` false nobody does: False is given where others hold it.

    The file is left behind: were it deleted, two could hold locks of one name. It says who holds it.
    """
    with _opened(path, os.O_RDWR | os.O_CREAT) as file, _kept(file, fcntl.LOCK_EX, doing, waits) as ours:
        yield ours


@contextmanager
def shared(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock at `path` together with others who do so, and wait for whoever holds it alone, as `held` does."""
    with _opened(path, os.O_RDWR | os.O_CREAT) as file, _kept(file, fcntl.LOCK_SH, doing, True):
        yield


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Wait until no other process works in a folder, and keep others waiting, without a file for it. For moments: who
    waits says nothing.
    """
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder, os.O_RDONLY) as file, _kept(file, fcntl.LOCK_EX, "", True):
        yield


@contextmanager
def held_for_renaming(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written and then renamed, made if it is not there: open, and locked as a folder is. It is not what
    another process is writing, or has just given its own name. Raises OSError.
    """
    while True:
        with path.open("ab") as file:
            _flock(file.fileno(), fcntl.LOCK_EX)
            if not _is_at(file.fileno(), path):
                continue
            yield file
            return


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int | None]:
    """The descriptor of a lock's file or folder; None where it cannot be made or opened."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, flags, 0o666)
    except OSError:
        yield None
        return
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _kept(file: int | None, how: int, doing: str, waits: bool) -> Iterator[bool]:
    """Lock an open file meanwhile, unless there is none, or this thread has it already. Gives whether others do not."""
    mine = None if file is None else _identity(file)
    if file is None or mine is None or mine in _mine:
        yield True
        return
    ours = _locked(file, how, doing, waits) if doing else _flock(file, how)
    if ours and how == fcntl.LOCK_EX:
        _mine.add(mine)
    try:
        yield ours
    finally:
        _mine.discard(mine)


def _identity(file: int) -> tuple[int, int, int]:
    found = os.fstat(file)
    return found.st_dev, found.st_ino, threading.get_ident()


def _locked(file: int, how: int, doing: str, waits: bool) -> bool:
    """Lock an open file as soon as it can be had, and sign it if it is had alone; or, without waiting, say that it
    cannot.
    """
    began, due, told = time.monotonic(), now_and_then(), False
    while not _flock(file, how | fcntl.LOCK_NB):
        if not waits:
            return False
        if not told:
            log.warning("%s waited for %s.", doing[:1].upper() + doing[1:], _holder(file))
        if not told or due():
            say(f"{doing} waits for {_holder(file)}, {time.monotonic() - began:.0f} s so far")
        told = True
        time.sleep(POLL_SECONDS)
    if told:
        say(f"{doing} goes on after {time.monotonic() - began:.0f} s")
    if how == fcntl.LOCK_EX:
        _sign(file, doing)
    return True


def _flock(file: int, how: int) -> bool:
    """Lock an open file; False where another has it and `how` says not to wait."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        log.debug("No lock (%s): some disks have none.", error)
    return True


def _sign(file: int, doing: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = f"process {os.getpid()} on {platform.node()}, which is {doing} since {now}"
    with suppress(OSError):  # the disk is full: it is locked all the same
        os.ftruncate(file, 0)
        os.pwrite(file, told.encode(), 0)


def _holder(file: int) -> str:
    """Who holds a lock, as it has signed: not at all in the moment between locking and signing."""
    return os.pread(file, MOST_SIGNED, 0).decode(errors="replace") or "another session"


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file has this name, still or again."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
