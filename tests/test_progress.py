"""What long work says of itself: nothing at first, then lines in a log, bars in a terminal."""

import io
import itertools
import time

import pytest

from pytest_quantbench import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by 20 seconds whenever it is looked at."""
    seconds = itertools.count(0, 20)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(progress, "_heard_seconds", 0.0)
    yield
    progress.show_on(None)


def test_a_log_gets_a_line_a_minute_with_what_is_left(clock):
    log = io.StringIO()
    progress.show_on(log)
    assert list(progress.track(range(10), what="T2 Tiny int4", unit="layer")) == list(range(10))
    lines = [line for line in log.getvalue().splitlines() if line]
    assert 2 <= len(lines) <= 5
    assert lines[0] == "quantbench: T2 Tiny int4: 2 of 10 layers after 0:01:20, about 0:05:20 left"


def test_work_of_unknown_length_names_no_time_left(clock):
    log = io.StringIO()
    progress.show_on(log)
    list(progress.track(iter(range(9)), what="reading", unit="file"))
    assert " of " not in log.getvalue()
    assert "left" not in log.getvalue()
    assert "reading: 2 files after 0:01:20" in log.getvalue()


def test_several_of_a_unit_are_named_as_such(clock):
    log = io.StringIO()
    progress.show_on(log)
    list(progress.track(range(9), what="int4", unit="matrix"))
    assert "2 of 9 matrices after" in log.getvalue()


def test_short_work_says_nothing_in_a_log(monkeypatch):
    monkeypatch.setattr(progress, "_heard_seconds", time.monotonic())
    log = io.StringIO()
    progress.show_on(log)
    list(progress.track(range(1000), what="short", unit="step"))
    progress.show_on(None)
    assert log.getvalue() == ""


def test_a_terminal_gets_a_bar_and_lines_above_it():
    terminal = Terminal()
    progress.show_on(terminal)
    for _ in progress.track(range(3), what="walking", unit="layer"):
        progress.say("a line")
    progress.show_on(None)
    assert "walking" in terminal.getvalue()
    assert "a line" in terminal.getvalue()


def test_nobody_listening_is_no_error():
    progress.show_on(None)
    progress.say("into the void")
    assert list(progress.track([1, 2], what="work", unit="step")) == [1, 2]


def test_many_short_pieces_of_work_are_heard_of_like_a_long_one(clock):
    log = io.StringIO()
    progress.show_on(log)
    for number in range(12):
        list(progress.track(range(1), what=f"look {number}", unit="walk"))
    assert log.getvalue().count("quantbench: look") >= 3
