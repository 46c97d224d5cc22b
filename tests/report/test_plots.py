"""The plot of a run: every cell, every limit; and what is said where it cannot be drawn."""

import importlib.util

import pytest
from builders import make_record, make_verdict

from pytest_quantbench.errors import DiskError
from pytest_quantbench.report import plots


def records():
    for recipe, bits, outcome, estimate in (
        ("int4", 4, "pass", 0.2),
        ("int3", 3, "undecided", 2.4),
        ("int2", 2, "fail", 60),
        ("theirs", 4, "anomalous", -0.3),
    ):
        figures = {"estimate": estimate, "low": 0.9 * estimate, "high": 1.1 * estimate}
        verdict = make_verdict("perplexity_delta", outcome, limit=1, **figures)
        yield make_record(level=f"int{bits}", recipe=recipe, bits=bits, verdicts=(verdict,))


@pytest.fixture
def path(tmp_path):
    pytest.importorskip("matplotlib")
    return tmp_path / "deep" / "plot.svg"


def test_the_plot_is_drawn_with_every_cell_and_limit(path):
    plots.draw(list(records()), path)
    drawn = path.read_text()
    assert drawn.startswith("<?xml")
    for colour in ("pass", "undecided", "fail", "anomalous"):
        assert plots.COLOURS[colour] in drawn


def test_a_plot_says_where_it_is_and_not_when_it_was_drawn(path):
    assert plots.draw_or_say(list(records()), path) == f"plot: {path}"
    assert "<dc:date>" not in path.read_text()


def test_records_without_verdicts_are_drawn_too(path):
    plots.draw([make_record(), make_record(level="bf16", recipe="bf16", bits=16)], path)
    assert path.is_file()


def test_a_plot_that_cannot_be_written_is_named(path):
    path.parent.write_text("a file, not a folder")
    with pytest.raises(DiskError, match=r"Cannot write .*plot\.svg"):
        plots.draw(list(records()), path)


def test_without_matplotlib_the_plots_absence_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "matplotlib is not installed" in plots.draw_or_say(list(records()), tmp_path / "plot.svg")
    assert list(tmp_path.iterdir()) == []
