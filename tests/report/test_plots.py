import importlib.util

import pytest
from builders import make_perplexity, make_record

from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.report import plots


def records():
    for level, bits, outcome, estimate in (
        ("int4", 4, "pass", 0.2),
        ("int3", 3, "undecided", 2.4),
        ("int2", 2, "fail", 60),
    ):
        verdict = Verdict(
            metric="perplexity_delta",
            outcome=outcome,
            limit=1,
            estimate=estimate,
            low=0.9 * estimate,
            high=1.1 * estimate,
            sentence="S.",
        )
        yield make_record(level=level, recipe=level, bits=bits, perplexity=make_perplexity(), verdicts=(verdict,))


def test_the_plot_is_drawn_with_every_cell_and_limit(tmp_path):
    pytest.importorskip("matplotlib")
    plots.draw(list(records()), tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert drawn.startswith("<?xml")
    for colour in ("pass", "undecided", "fail"):
        assert plots.COLOURS[colour] in drawn


def test_without_matplotlib_the_plots_absence_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "matplotlib is not installed" in plots.draw_or_say(list(records()), tmp_path / "plot.svg")
