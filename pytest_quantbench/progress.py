"""Progress of long work, and where the time went: a line below the output of a terminal, a line now and then in a log.

pytest captures what tests write, so the plugin hands in a copy of standard error as it is outside of that, for as long
as a session with cells runs, and says `within` which of its cells the work is done. `stage` keeps the seconds.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO, TypeVar

T = TypeVar("T")
PLURALS = {"matrix": "matrices"}  # of units that take more than an s
QUIET_SECONDS = 60.0  # in a log: so long nothing is said, and between two lines
DRAWN_SECONDS = 0.2  # in a terminal: so long a line stays as it is
# VT100: see to it that there is a line below (down, up), keep the place, go there, write without wrapping, come back.
BETWEEN = " · "  # parts of a line
BELOW = "\033D\033M\0337\033D\r\033[2K\033[?7l{}\033[?7h\0338"
_terminal: TextIO | None = sys.stderr if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else None
_log: TextIO | None = None
_heard_seconds = time.monotonic()  # when anything was said last, by whatever work
_drawn_seconds = 0.0  # when the line was drawn last; 0: there is none
_which = ""  # which cell of how many
_rest: Callable[[], str] = str  # how long all of it takes
_working: "list[Steps]" = []  # the outermost first
_stages: "list[_Stage]" = []
_spent: dict[tuple[str, str], float] = {}


def show_on(stream: TextIO | None) -> None:
    """Send progress to this stream: a line at its bottom if it is a terminal, else lines. None: only where standard
    error is one.
    """
    global _terminal, _log
    terminal = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    _terminal, _log = (stream, None) if terminal else (None, stream)


def within(which: str, rest: Callable[[], str] = str) -> None:
    """Say which part of a session all work from now on is of, `cell 7 of 30 · Tiny-int4`, and how long the rest takes,
    as a text when it is asked for. Nothing: of none. What was under way is over.
    """
    global _which, _rest
    _which, _rest = which, rest
    _working.clear()
    clear()


def say(line: str) -> None:
    """Show one line at once, whatever a test's own output is captured for."""
    global _heard_seconds
    _heard_seconds = time.monotonic()
    if _terminal is not None:
        clear()
        print(f"\r\n{line}\r", file=_terminal, flush=True)
    elif _log is not None:
        print(f"\nquantbench: {line}", file=_log, flush=True)


def clear() -> None:
    """Take the line away, as before anybody else writes."""
    global _drawn_seconds
    if _terminal is not None and _drawn_seconds:
        print(BELOW.format(""), end="", file=_terminal, flush=True)
    _drawn_seconds = 0.0


def _is_due() -> bool:
    return time.monotonic() - _drawn_seconds >= DRAWN_SECONDS


def _fitting(text: str, columns: int) -> str:
    """A line that is not longer than the terminal is wide: without its first parts where it would be, since how long it
    still takes stands last.
    """
    while len(text) > columns and BETWEEN in text:
        text = text.partition(BETWEEN)[2]
    return text[:columns]


def _draw(text: str) -> None:
    global _drawn_seconds
    if _terminal is not None and _is_due():
        print(BELOW.format(_fitting(text, shutil.get_terminal_size().columns)), end="", file=_terminal, flush=True)
        _drawn_seconds = time.monotonic()


class Steps:
    """Work in steps of a `unit`, of which there are `total` (None: nobody knows): shown from `begin` to `end`. Of steps
    within steps the outermost are shown.
    """

    def __init__(self, what: str, unit: str, total: int | None) -> None:
        self._what, self._unit, self._total = what, unit, total
        self._began = time.monotonic()

    def begin(self) -> None:
        """The first step begins now."""
        self._began = time.monotonic()
        _working.append(self)
        self.at(0)

    def at(self, done: int) -> None:
        """So many steps are done."""
        if _working[:1] != [self]:
            return
        if _terminal is not None and _is_due():
            of = f"{self._what}, {self._unit} {self._of(done)}"
            _draw(BETWEEN.join(filter(None, [_which, of, self._times(done)])))
        elif _log is not None and done and time.monotonic() - _heard_seconds >= QUIET_SECONDS:
            units = PLURALS.get(self._unit, f"{self._unit}s")
            after = f"{self._of(done)} {units} after {duration(time.monotonic() - self._began)}"
            told = f"{self._what}: {', '.join(filter(None, [after, self._times(done)]))}"
            say(BETWEEN.join(filter(None, [_which, told])))

    def _of(self, done: int) -> str:
        return f"{done}{'' if self._total is None else f' of {self._total}'}"

    def _times(self, done: int) -> str:
        """What is left of these steps, and of the session."""
        seconds = time.monotonic() - self._began
        return ", ".join(filter(None, [self._left(done, seconds), _rest()]))

    def _left(self, done: int, seconds: float) -> str:
        if not done or self._total is None or done >= self._total:
            return ""
        return f"{duration(seconds / done * (self._total - done))} left"

    def end(self) -> None:
        """No step is under way any more, whether or not all were done."""
        if self in _working:
            _working.remove(self)
        if not _working:
            clear()


def track(items: Iterable[T], *, what: str, unit: str, total: int | None = None) -> Iterator[T]:
    """The items, with their progress shown while they are gone through."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    steps = Steps(what, unit, total)
    steps.begin()
    try:
        for done, item in enumerate(items, 1):
            yield item
            steps.at(done)
    finally:
        steps.end()


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


class _Stage:
    """One stage under way: what it is called, for which cells, and the seconds that stages within it took."""

    def __init__(self, name: str, cells: Sequence[str]) -> None:
        self.name, self.cells = name, cells
        self.began, self.inner = time.perf_counter(), 0.0

    def __enter__(self) -> None:
        _stages.append(self)
        if _terminal is not None and not _working and _which:
            _draw(f"{_which}{BETWEEN}{self.name}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stages.remove(self)
        seconds = time.perf_counter() - self.began
        if _stages:
            _stages[-1].inner += seconds
        for cell in self.cells:
            _spent[self.name, cell] = _spent.get((self.name, cell), 0.0) + (seconds - self.inner) / len(self.cells)


def stage(name: str, *cells: str) -> _Stage:
    """Count the seconds of a block to a stage, evenly for these cells (those of the stage around it where none is
    named), without those of stages within it.
    """
    return _Stage(name, cells or (_stages[-1].cells if _stages else ("",)))


def spent() -> dict[tuple[str, str], float]:
    """The seconds so far, by stage and cell, of stages that are over."""
    return dict(_spent)


@contextmanager
def counting() -> Iterator[None]:
    """Begin to count anew, and forget what was counted when the block is left."""
    _spent.clear()
    try:
        yield
    finally:
        _spent.clear()


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
