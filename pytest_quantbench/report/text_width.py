"""Text in so many columns of a terminal: how wide it is, filled up, broken into lines.

Letters of East Asian scripts are two columns wide (Unicode's East Asian Width, UAX #11), marks above a letter none.
"""

import unicodedata
from collections.abc import Iterator

NO_WIDTH = ("Mn", "Me", "Cf")  # categories: marks, and what only directs the layout
UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text on one line, with a sign for every character that would do something instead of being seen."""
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) in NO_WIDTH else UNPRINTABLE for letter in text
    )


def columns(text: str) -> int:
    """How many columns a text takes."""
    return sum(map(_width, text))


def _width(letter: str) -> int:
    if unicodedata.category(letter) in NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def left(text: str, width: int) -> str:
    """Filled up with blanks behind it."""
    return text + " " * (width - columns(text))


def right(text: str, width: int) -> str:
    """Filled up with blanks before it."""
    return " " * (width - columns(text)) + text


def wrapped(text: str, width: int, indent: str = "", first: str | None = None) -> list[str]:
    """Lines of at most `width` columns that begin with `indent`, the first with `first`. A word that is longer than a
    line is broken where the line ends. The indent must leave at least two columns.
    """
    lines: list[str] = []
    line, begun = indent if first is None else first, False
    for word in _words(printable(text), width - columns(indent)):
        if begun and columns(line) + 1 + columns(word) > width:
            lines, line, begun = [*lines, line], indent, False
        line += (" " if begun else "") + word
        begun = True
    return [*lines, line] if begun else lines


def _words(text: str, room: int) -> Iterator[str]:
    """Words, none of them wider than `room`."""
    for word in text.split():
        part, wide = "", 0
        for letter in word:
            if wide + _width(letter) > room:
                yield part
                part, wide = "", 0
            part, wide = part + letter, wide + _width(letter)
        yield part
