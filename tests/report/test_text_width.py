"""Widths of text in a terminal, against known answers; lines lose no word and are never too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.report.text_width import UNPRINTABLE, columns, left, printable, right, wrapped


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0),
        ("int4", 4),
        ("模型", 4),
        ("ｆｕｌｌ", 8),
        ("ｶﾅ", 2),
        ("e\u0301", 1),
        ("±✓ΔΔ", 4),
        ("a\u200bb", 2),
        ("한글", 4),
    ],
)
def test_known_widths(text, width):
    assert columns(text) == width


def test_text_is_filled_up_by_its_width():
    assert left("模", 4) + "|" == "模  |"
    assert right("模", 4) == "  模"
    assert left("too long", 3) == "too long"


def test_what_would_move_the_cursor_is_a_sign():
    assert printable("a\nb\x1b[1m") == f"a{UNPRINTABLE}b{UNPRINTABLE}[1m"
    assert printable("模 é e\u0301") == "模 é e\u0301"


def test_lines_break_at_words_and_hang():
    assert wrapped("one two three", 9, "  ", "") == ["one two", "  three"]
    assert wrapped("one two", 9, "  ") == ["  one two"]
    assert wrapped("incomprehensible", 7, "  ", "") == ["incom", "  prehe", "  nsibl", "  e"]
    assert wrapped("模型模型", 5) == ["模型", "模型"]
    assert wrapped("", 9) == wrapped("  ", 9) == []


@given(text=st.text(), width=st.integers(4, 60), indent=st.sampled_from(["", "  "]))
def test_lines_fit_and_have_all_letters(text, width, indent):
    lines = wrapped(text, width, indent)
    assert all(columns(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(printable(text).split())
