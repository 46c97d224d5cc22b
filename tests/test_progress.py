"""What long work says of itself: nothing at first, then lines in a log, a line below the output in a terminal; and the
seconds that its stages took.
"""

import io
import itertools
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def drawn(self):
        """What stood on the line, one after the other."""
        return re.findall(r"\x1b\[2K\x1b\[\?7l(.*?)\x1b\[\?7h", self.getvalue())


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by 20 seconds whenever it is looked at."""
    seconds = itertools.count(0, 20)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(progress, "_heard_seconds", 0.0)
    yield
    progress.show_on(None)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "DRAWN_SECONDS", 0.0)
    found = Terminal()
    progress.show_on(found)
    yield found
    progress.within("")
    progress.show_on(None)


@pytest.fixture
def counted():
    with progress.counting():
        yield


def test_a_log_gets_a_line_a_minute_with_what_is_left(clock):
    log = io.StringIO()
    progress.show_on(log)
    assert list(progress.track(range(10), what="T2 of Tiny", unit="layer")) == list(range(10))
    lines = [line for line in log.getvalue().splitlines() if line]
    assert 2 <= len(lines) <= 5
    found = re.fullmatch(r"quantbench: T2 of Tiny: (\d) of 10 layers after (\d+) (s|min), \d+ (s|min) left", lines[0])
    assert found
    assert int(found[1]) >= 1


def test_a_log_names_the_cell_and_what_is_left_of_the_session(clock):
    log = io.StringIO()
    progress.show_on(log)
    progress.within("cell 2 of 5 · Tiny-int4", lambda: "about 2 h for all")
    list(progress.track(range(10), what="T2 of Tiny", unit="layer"))
    progress.within("")
    assert "quantbench: cell 2 of 5 · Tiny-int4 · T2 of Tiny: " in log.getvalue()
    assert " left, about 2 h for all\n" in log.getvalue()


def test_work_of_unknown_length_names_no_time_left(clock):
    log = io.StringIO()
    progress.show_on(log)
    list(progress.track(iter(range(9)), what="reading", unit="file"))
    assert " of " not in log.getvalue()
    assert "left" not in log.getvalue()
    assert re.search(r"reading: \d files after ", log.getvalue())


def test_several_of_a_unit_are_named_as_such(clock):
    log = io.StringIO()
    progress.show_on(log)
    list(progress.track(range(9), what="int4", unit="matrix"))
    assert " of 9 matrices after" in log.getvalue()


def test_short_work_says_nothing_in_a_log(monkeypatch):
    monkeypatch.setattr(progress, "_heard_seconds", time.monotonic())
    log = io.StringIO()
    progress.show_on(log)
    list(progress.track(range(1000), what="short", unit="step"))
    progress.show_on(None)
    assert log.getvalue() == ""


def test_work_that_has_not_done_a_step_is_not_heard_of_in_a_log(monkeypatch):
    """Long as nobody has said anything: it would be `0 of 4 layers after 0 s`."""
    monkeypatch.setattr(progress, "_heard_seconds", time.monotonic() - 1000)
    log = io.StringIO()
    progress.show_on(log)
    steps = progress.Steps("calibration text", "layer", 4)
    steps.begin()
    steps.end()
    progress.show_on(None)
    assert log.getvalue() == ""


def test_many_short_pieces_of_work_are_heard_of_like_a_long_one(clock):
    log = io.StringIO()
    progress.show_on(log)
    for number in range(12):
        list(progress.track(range(1), what=f"look {number}", unit="walk"))
    assert log.getvalue().count("quantbench: look") >= 3


def test_a_terminal_has_a_line_below_what_stands_there(terminal):
    """The cursor comes back to its place, and nothing is left."""
    progress.within("cell 7 of 30 · Llama-int4", lambda: "about 2 h for all")
    for _ in progress.track(range(28), what="encoding int4", unit="layer"):
        pass
    assert terminal.drawn[0] == "cell 7 of 30 · Llama-int4 · encoding int4, layer 0 of 28 · about 2 h for all"
    assert re.fullmatch(
        r"cell 7 of 30 · Llama-int4 · encoding int4, layer 12 of 28 · \d+ s left, about 2 h for all",
        terminal.drawn[12],
    )
    assert terminal.drawn[-1] == ""
    assert terminal.getvalue().count("\0337") == terminal.getvalue().count("\0338")
    assert "\n" not in terminal.getvalue()


def test_the_line_is_no_longer_than_the_terminal_is_wide(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    progress.within("cell 7 of 30 · Llama-int4")
    list(progress.track(range(3), what="encoding int4", unit="layer"))
    assert max(map(len, terminal.drawn)) == 20


def test_a_line_of_its_own_stands_above(terminal):
    steps = progress.Steps("walking", "layer", 3)
    steps.begin()
    progress.say("a line")
    steps.end()
    assert terminal.drawn == ["walking, layer 0 of 3", ""]
    assert "\r\na line\r\n" in terminal.getvalue()


def test_of_work_within_work_the_outer_is_shown(terminal):
    for _ in progress.track("ab", what="outer", unit="layer"):
        list(progress.track("xyz", what="inner", unit="matrix"))
    assert not any("inner" in line for line in terminal.drawn)
    list(progress.track("xyz", what="inner", unit="matrix"))
    assert any("inner" in line for line in terminal.drawn)


def test_work_that_was_left_in_the_middle_is_not_shown_for_ever(terminal):
    progress.Steps("left", "run", 5).begin()
    progress.within("cell 2 of 2 · x")
    list(progress.track("xyz", what="next", unit="matrix"))
    assert terminal.drawn[-2].startswith("cell 2 of 2 · x · next, matrix 3 of 3")


def test_a_stage_without_steps_is_named(terminal, counted):
    progress.within("cell 1 of 1 · Tiny-int4")
    with progress.stage("T1", "Tiny-int4"):
        assert terminal.drawn == ["cell 1 of 1 · Tiny-int4 · T1"]


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_a_dumb_terminal_is_a_log_and_nobody_listening_is_no_error(monkeypatch, stream):
    monkeypatch.setenv("TERM", "dumb")
    progress.show_on(Terminal() if stream else None)
    progress.say("into the void")
    assert list(progress.track([1, 2], what="work", unit="step")) == [1, 2]
    progress.show_on(None)


def test_seconds_are_counted_once_by_stage_and_cell(counted, monkeypatch):
    """Those of a stage within another are not the outer one's; those of several cells are shared."""
    seconds = iter([0.0, 1.0, 4.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(seconds))
    with progress.stage("judge", "Tiny-int4"), progress.stage("T2", "Tiny-int4", "Tiny-bf16"):
        pass
    assert progress.spent() == {("T2", "Tiny-int4"): 1.5, ("T2", "Tiny-bf16"): 1.5, ("judge", "Tiny-int4"): 7.0}


def test_a_stage_without_a_cell_is_of_that_around_it(counted):
    with progress.stage("judge", "Tiny-int4"), progress.stage("fetch"):
        pass
    with progress.stage("report"):
        pass
    assert set(progress.spent()) == {("judge", "Tiny-int4"), ("fetch", "Tiny-int4"), ("report", "")}


def test_what_ends_with_an_error_is_counted_too(counted):
    with pytest.raises(ValueError, match="no"), progress.stage("T2", "Tiny-int4"):
        raise ValueError("no")
    assert ("T2", "Tiny-int4") in progress.spent()
    with progress.stage("T3"):
        pass
    assert ("T3", "") in progress.spent()


def test_counting_begins_anew(counted):
    with progress.stage("T2"):
        pass
    with progress.counting():
        assert progress.spent() == {}


@pytest.mark.parametrize(("seconds", "told"), [(3, "3 s"), (125, "2 min"), (12_000, "3 h 20 min")])
def test_durations_are_readable(seconds, told):
    assert progress.duration(seconds) == told


@given(st.floats(0, 1e7))
def test_durations_never_say_sixty_minutes(seconds):
    assert " 60 min" not in progress.duration(seconds)


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (80, "cell 3 of 30 · Tiny-int4 · encoding int4, layer 3 of 5, 9 s left"),
        (60, "Tiny-int4 · encoding int4, layer 3 of 5, 9 s left"),
        (40, "encoding int4, layer 3 of 5, 9 s left"),
        (20, "encoding int4, layer"),
    ],
)
def test_a_line_that_is_too_long_keeps_its_end(columns, shown):
    text = "cell 3 of 30 · Tiny-int4 · encoding int4, layer 3 of 5, 9 s left"
    assert progress._fitting(text, columns) == shown
