"""Codec figures → a chart: SNR of weights and outputs against stored bits per weight, with Shannon's bounds."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from pytest_quantbench.report.charts import scatter, sheet
from pytest_quantbench.workbench.side_by_side import DB_PER_BIT, CodecFigures

WIDTH = 1000
PANEL, HEIGHT = 240, 260
ACROSS = {"snr_db": "SNR of weights, dB", "output_snr_db": "SNR of outputs, dB"}
TITLE = "SNR of weights and outputs by stored bits per weight"
TELLS = (
    "Each method at each of its widths: higher and further left is better. The dashed line is Shannon's bound for "
    "white inputs, the dotted one that for these inputs."
)


def draw(figures: Sequence[CodecFigures]) -> dict[str, Any]:
    """The specification: a panel for every matrix, of its weights above and of its outputs below."""
    cases = list(dict.fromkeys(row.case for row in figures))
    methods = sorted({row.method for row in figures})
    on = sheet.Sheet(title=TITLE, tells=TELLS, width=WIDTH)
    groups = scatter.Groups(title="method", names=methods, width=on.legend_width)
    panels = [
        _panel(on, [row for row in figures if row.case == case], what, groups) for what in ACROSS for case in cases
    ]
    return on.finish(panels, [], columns=len(cases))


def _panel(on: sheet.Sheet, figures: Sequence[CodecFigures], what: str, groups: scatter.Groups) -> sheet.Drawn:
    ordered = sorted(figures, key=lambda row: (row.method, row.bits_per_weight))
    rows = [
        {
            "group": row.method,
            "codec": f"{row.method} {row.width}",
            "bits": round(row.bits_per_weight, 4),
            "snr": round(getattr(row, what), 3),
        }
        for row in ordered
    ]
    x = alt.X("bits:Q", title="stored bits per weight").scale(zero=True)
    y = alt.Y("snr:Q", title=ACROSS[what])
    tooltip = [
        alt.Tooltip("codec:N"),
        alt.Tooltip("bits:Q", title="bits per weight"),
        alt.Tooltip("snr:Q", title=ACROSS[what]),
    ]
    points = alt.Chart(on.rows(rows))
    layers = [
        *_bounds(on, figures, what, x, y),
        points.mark_line(strokeWidth=1).encode(x=x, y=y, color=groups.colour()),
        points.mark_point(filled=True, size=40, opacity=1).encode(
            x=x, y=y, color=groups.colour(), shape=groups.shape(), tooltip=tooltip
        ),
    ]
    return sheet.panel(layers, PANEL, HEIGHT, sheet.heading(figures[0].case))


def _bounds(on: sheet.Sheet, figures: Sequence[CodecFigures], what: str, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Shannon's lines: for white inputs, and of outputs for the inputs that there are."""
    widest = max(row.bits_per_weight for row in figures)
    white = [{"bits": 0.0, "snr": 0.0}, {"bits": widest, "snr": DB_PER_BIT * widest}]
    coloured = sorted((row.bits_per_weight, row.bound_db) for row in figures if row.bound_db is not None)
    lines = [(white, [6, 3])]
    if what == "output_snr_db" and coloured:
        lines.append(([{"bits": bits, "snr": bound} for bits, bound in coloured], [2, 2]))
    return [
        alt.Chart(on.rows(rows)).mark_line(strokeDash=dash, strokeWidth=1.3).encode(x=x, y=y, color=alt.value("gray"))
        for rows, dash in lines
    ]
