"""Progress of long work: a bar with time left in a terminal, nothing in a log."""

import sys
from collections.abc import Iterable
from typing import TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_terminal: TextIO | None = sys.stderr if sys.stderr.isatty() else None


def show_on(stream: TextIO | None) -> None:
    """Send progress to this stream if it is a terminal. pytest's capture hides stderr, so the plugin keeps a copy."""
    global _terminal
    _terminal = stream if stream is not None and stream.isatty() else None


def track(items: Iterable[T], *, what: str, unit: str, total: int | None = None) -> Iterable[T]:
    """The items, with a bar while they are gone through."""
    bar: Iterable[T] = tqdm(
        items, desc=what, unit=unit, total=total, file=_terminal, disable=_terminal is None, leave=False
    )
    return bar
