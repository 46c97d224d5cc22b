"""What a session says of itself: which cell of how many, how long it takes, and of no configuration file."""

import os

import pytest
from gates import GATE

from pytest_quantbench import progress
from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.plugin.session_progress import SessionProgress
from pytest_quantbench.plugin.suite import suite_arguments


class Run:
    """Of a session whose results folder is empty."""

    class settings:
        results = "nowhere"


def test_a_test_knows_which_cell_of_how_many_it_is_of(suite, pytester):
    source = """
        import pathlib
        from pytest_quantbench import progress

        def test_seen(cell):
            pathlib.Path("seen", cell.id).write_text(progress._which)

        def test_other():
            pathlib.Path("seen", "other").write_text(progress._which)
    """
    folder = pytester.mkdir("seen")
    arguments = ("-k", "Tiny or other", "-m", "not int3", "--recipe", "int4", "--recipe", "int2")
    suite(source, *arguments).assert_outcomes(passed=4)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "Tiny-bf16": "cell 1 of 3 · Tiny-bf16",
        "Tiny-int4": "cell 2 of 3 · Tiny-int4",
        "Tiny-int2": "cell 3 of 3 · Tiny-int2",
        "other": "",
    }
    assert progress._which == ""


@pytest.fixture
def under_way(monkeypatch):
    """A session over two cells of one model; the clock stands at 100 s."""
    found = SessionProgress(Run())
    found._cells = [(MODELS["Tiny"], recipe("int4")), (MODELS["Tiny"], recipe("int3"))]
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    found._began_seconds = found._cell_seconds = 0.0
    return found


def test_what_is_left_follows_from_what_cells_took(under_way):
    """The first took 700 s, and 300 of the second's are over."""
    under_way._place, under_way._cell_seconds = 1, 700.0
    assert under_way._rest() == "about 7 min for all"
    under_way._cell_seconds = 990.0
    assert under_way._rest() == "about 16 min for all"
    under_way._cell_seconds = 500.0
    assert under_way._rest() == ""  # it is over any moment, as far as anybody knows


def test_nothing_is_known_of_what_is_left_before_the_first_cell_is_done(under_way):
    assert under_way._rest() == ""


def test_earlier_records_say_what_is_left_of_the_first_cell_too(under_way):
    under_way._forecasts = [2000.0, 400.0]
    assert under_way._rest() == "about 23 min for all"
    under_way._place, under_way._cell_seconds = 1, 1000.0
    assert under_way._rest() == "about 3 min for all"  # twice as fast as those were


def test_the_suite_names_no_configuration_file(pytester, monkeypatch):
    monkeypatch.setattr("pytest_quantbench.plugin.suite.SUITE", pytester.path / "benches")
    pytester.mkdir("benches").joinpath("test_gate.py").write_text(GATE)
    result = pytester.runpytest_inprocess(*suite_arguments(["--collect-only", "-q", "-q"]))
    assert result.ret == 0
    told = pytester.runpytest_inprocess(*suite_arguments(["--collect-only"])).stdout.str()
    assert "rootdir: " in told
    assert "configfile" not in told
    assert os.devnull not in told
