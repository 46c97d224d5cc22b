"""Lines of a terminal as pieces with a tone each, and the same as text, with colours or without."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TextIO, TypeAlias

from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.report.reasons import Word

Tone = Literal["plain", "good", "bad", "open", "title", "aside"]
CODES: Mapping[Tone, str] = {"good": "32", "bad": "31", "open": "33", "title": "1", "aside": "2"}  # of ANSI (ECMA-48)
TONES: Mapping[Outcome, Tone] = {"pass": "good", "fail": "bad", "undecided": "open", "anomalous": "open"}
WORD_TONES: Mapping[Word, Tone] = {"may ship": "good", "may not ship": "bad", "undecided": "open"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a line in one tone."""

    text: str
    tone: Tone = "plain"


Line: TypeAlias = Sequence[Piece]


def plain(text: str, tone: Tone = "plain") -> Line:
    """A line of one piece."""
    return (Piece(text, tone),)


def as_text(line: Line, *, colours: bool) -> str:
    """The line, without blanks at its end."""
    pieces = list(line)
    while pieces and not (stripped := pieces[-1].text.rstrip()):
        pieces.pop()
    if pieces:
        pieces[-1] = Piece(stripped, pieces[-1].tone)
    return "".join(_coded(piece) if colours else piece.text for piece in pieces)


def _coded(piece: Piece) -> str:
    code = CODES.get(piece.tone)
    return f"\033[{code}m{piece.text}\033[0m" if code and piece.text else piece.text


def are_wanted(stream: TextIO) -> bool:
    """Whether colours are written to a stream outside of pytest, which decides for itself by the same rules: never with
    NO_COLOR (no-color.org), always with FORCE_COLOR, else in a terminal that is not a dumb one.
    """
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")
