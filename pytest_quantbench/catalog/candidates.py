"""Candidates: quantized models that somebody else made, to be judged against the original."""

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.errors import QuantbenchError

NAME = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file or directory in a format that is read here, or one of the Hub: `owner/name@revision:file`, where revision
    and file may be left out. Its cells are called MODEL-NAME.

    `own_config`: it is run with the rotary positions and the like that its own files state, and not the original's.
    """

    name: str
    source: str
    own_config: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise QuantbenchError(
                f"A candidate cannot be called {self.name!r}: letters, digits, '.', '_', '+' and '-' are possible. "
                f"Name it with --candidate NAME={self.source}."
            )


def printable(name: str) -> str:
    """A name with `_` for all that no candidate's name can hold."""
    return re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII).lstrip("_.+-")


def name_and_source(text: str) -> tuple[str | None, str]:
    """A candidate's name, where one is given, and where it lies, of `NAME=SOURCE`: a path may hold a `=`, too."""
    name, equals, source = text.partition("=")
    if not equals or not NAME.fullmatch(name) or Path(text).expanduser().exists():
        return None, text
    return name, source
