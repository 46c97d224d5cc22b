"""Lines as text: with colours where they are wanted."""

import io

import pytest

from pytest_quantbench.report.coloured import Piece, are_wanted, as_text, plain


class Stream(io.StringIO):
    def __init__(self, *, terminal):
        super().__init__()
        self._terminal = terminal

    def isatty(self):
        return self._terminal


def test_a_line_is_its_pieces():
    line = (Piece("int4 "), Piece("✓", "good"), Piece(" "), Piece(""))
    assert as_text(line, colours=False) == "int4 ✓"
    assert as_text(line, colours=True) == "int4 \033[32m✓\033[0m"
    assert as_text(plain("  "), colours=True) == as_text(plain("", "bad"), colours=True) == ""


@pytest.mark.parametrize(
    ("variables", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_where_colours_are_wanted(monkeypatch, variables, terminal, wanted):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert are_wanted(Stream(terminal=terminal)) == wanted
