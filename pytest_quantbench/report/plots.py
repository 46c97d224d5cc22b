"""Records → one SVG: perplexity delta and accuracy drop with intervals and limits, and size. Needs matplotlib."""

import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_quantbench.errors import DiskError
from pytest_quantbench.judge.verdict import Outcome, Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.record.suite import worst

COLOURS: dict[Outcome, str] = {
    "pass": "#1a7f37",
    "fail": "#c1121f",
    "undecided": "#d98e04",
    "anomalous": "#7b2cbf",
    "informational": "#6c757d",
}
PANELS = {  # metric: x label
    "perplexity_delta": "perplexity delta vs BF16",
    "accuracy_drop_points": "accuracy drop vs BF16, points",
    "size_reduction_percent": "size reduction vs BF16, %",
}


def draw_or_say(records: Sequence[Record], path: Path) -> str:
    """Draw and say where, or say what is missing: matplotlib is an extra."""
    if importlib.util.find_spec("matplotlib") is None:
        return "plot: not drawn, matplotlib is not installed (pip install 'pytest-quantbench[plots]')"
    draw(records, path)
    return f"plot: {path}"


def draw(records: Sequence[Record], path: Path) -> None:
    """One row for every compressed cell, one panel for every metric. Raises DiskError where it cannot be written."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of matplotlib's own dependencies
        import matplotlib.pyplot as plt
        from matplotlib.lines import Line2D

    shown = [record for record in records if record.level != "bf16"]
    height = 1.6 + 0.34 * len(shown)
    estimated = {v.metric for record in shown for v in record.verdicts if v.estimate is not None}
    panels = {metric: label for metric, label in PANELS.items() if metric in estimated} or PANELS
    size = (3 + 2.7 * len(panels), height)
    figure, grid = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    axes = dict(zip(panels, grid[0], strict=True))
    for metric, axis in axes.items():
        for row, record in enumerate(shown):
            verdict = worst(record, metric)
            if verdict is not None and verdict.estimate is not None:
                _row(axis, row, verdict)
        axis.set_xlabel(panels[metric])
        axis.grid(axis="x", alpha=0.25)
        axis.spines[["top", "right", "left"]].set_visible(False)
    if "perplexity_delta" in axes:
        _spread(axes["perplexity_delta"], [v for r in shown for v in r.verdicts if v.metric == "perplexity_delta"])
    first = next(iter(axes.values()))
    first.set_yticks(range(len(shown)), [f"{record.model_id}-{record.recipe}" for record in shown])
    first.invert_yaxis()
    handles = [Line2D([], [], marker="o", ls="", color=colour, label=name) for name, colour in COLOURS.items()]
    handles.append(Line2D([], [], marker="|", ls="", ms=11, color="black", label="limit"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
    except OSError as error:
        raise DiskError(f"Cannot write {path}: {error.strerror}.") from error
    finally:
        plt.close(figure)


def _row(axis: Any, row: int, verdict: Verdict) -> None:
    """An estimate with its interval, and a tick at its limit."""
    colour = COLOURS[verdict.outcome]
    axis.plot([verdict.low, verdict.high], [row, row], color=colour, lw=2, solid_capstyle="round")
    axis.plot([verdict.estimate], [row], "o", color=colour, ms=6)
    if verdict.limit is not None:
        axis.plot([verdict.limit], [row], "|", color="black", ms=15, mew=1.5)


def _spread(axis: Any, verdicts: Sequence[Verdict]) -> None:
    """Perplexity deltas reach over decades: linear up to 1, logarithmic beyond."""
    if any(verdict.high is not None and verdict.high > 10 for verdict in verdicts):
        axis.set_xscale("symlog", linthresh=1)
