"""Progress of long work: a bar with time left in a terminal, a line now and then in a log.

pytest captures what tests write, so the plugin hands in a copy of standard error as it is outside of that, for as long
as a session with cells runs.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import timedelta
from typing import TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
PLURALS = {"matrix": "matrices"}  # of units that take more than an s
QUIET_SECONDS = 60.0  # in a log: so long nothing is said, and between two lines
_terminal: TextIO | None = sys.stderr if sys.stderr.isatty() else None
_log: TextIO | None = None
_heard_seconds = time.monotonic()  # when anything was said last, by whatever work


def show_on(stream: TextIO | None) -> None:
    """Send progress to this stream: bars if it is a terminal, else lines. None: only where standard error is one."""
    global _terminal, _log
    terminal = stream is not None and stream.isatty()
    _terminal, _log = (stream, None) if terminal else (None, stream)


def say(line: str) -> None:
    """Show one line at once, whatever a test's own output is captured for."""
    if _terminal is not None:
        tqdm.write(line, file=_terminal)
    elif _log is not None:
        global _heard_seconds
        _heard_seconds = time.monotonic()
        print(f"\nquantbench: {line}", file=_log, flush=True)


def track(items: Iterable[T], *, what: str, unit: str, total: int | None = None) -> Iterable[T]:
    """The items, with a bar or lines while they are gone through."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _terminal is None:
        return _told(items, what, unit, total)
    bar: Iterable[T] = tqdm(items, desc=what, unit=unit, total=total, file=_terminal, leave=False)
    return bar


def _told(items: Iterable[T], what: str, unit: str, total: int | None) -> Iterator[T]:
    began = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - _heard_seconds >= QUIET_SECONDS:
            say(f"{what}: {_stand(done, total, unit, time.monotonic() - began)}")
        yield item


def now_and_then() -> Callable[[], bool]:
    """A function that is true at most once in QUIET_SECONDS, and not before they are over."""
    last = time.monotonic()

    def due() -> bool:
        nonlocal last
        if time.monotonic() - last < QUIET_SECONDS:
            return False
        last = time.monotonic()
        return True

    return due


def _stand(done: int, total: int | None, unit: str, seconds: float) -> str:
    """`3 of 28 layers after 0:02:10, about 0:18:00 left`."""
    units = PLURALS.get(unit, f"{unit}s")
    so_far = f"{done}{'' if total is None else f' of {total}'} {units} after {_clock(seconds)}"
    left = "" if total is None or not done else f", about {_clock(seconds / done * (total - done))} left"
    return so_far + left


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
