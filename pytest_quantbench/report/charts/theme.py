"""Colours and type of the charts, as Vega-Lite configuration: specifications name none, so that pages choose.

The categories' colours are told apart by the colour-blind too (Okabe and Ito 2008; on dark ground lighter ones), and
every chart has shapes or labels beside them.
"""

from typing import Any

PAPER = "#ffffff"
FONT = "system-ui, 'Segoe UI', Arial, sans-serif"
_INK = {False: "#24292f", True: "#e6edf3"}
_FAINT = {False: "#6e7781", True: "#8d96a0"}
_GRID = {False: "#e4e7eb", True: "#30363d"}
_CATEGORIES = {
    False: [
        "#0072b2",
        "#d55e00",
        "#009e73",
        "#cc79a7",
        "#8c6d00",
        "#56b4e9",
        "#7b3294",
        "#a6761d",
        "#444444",
        "#e69f00",
    ],
    True: [
        "#56b4e9",
        "#ff8c42",
        "#2dc79a",
        "#f2a7cf",
        "#f0e442",
        "#9ad1f5",
        "#c79bf2",
        "#e0b36a",
        "#c9d1d9",
        "#ffc94d",
    ],
}
_OUTCOMES = {  # pass, fail, undecided, anomalous: as on the page
    False: ["#17653a", "#ab1f17", "#b36b00", "#75289b"],
    True: ["#74d196", "#ff9b91", "#f0b75e", "#d9a6f5"],
}
_STANDINGS = {False: ["#0072b2", "#9a76c4", "#8d96a0"], True: ["#56b4e9", "#c79bf2", "#8d96a0"]}  # on a front


def config(*, dark: bool = False, background: str | None = None) -> dict[str, Any]:
    """The configuration for a light or a dark page. `background`: a colour; None: the page's own shows through."""
    ink, faint, grid = _INK[dark], _FAINT[dark], _GRID[dark]
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "background": background or "transparent",
        "font": FONT,
        "aria": False,  # a label on every mark would make files several times larger; the tables say the same
        "padding": 12,
        "title": {"color": ink, "subtitleColor": faint, "anchor": "start", "fontSize": 15, "subtitleFontSize": 12},
        "axis": {**text, "gridColor": grid, "domainColor": faint, "tickColor": faint, "labelLimit": 180},
        "legend": {**text, "labelLimit": 220, "symbolStrokeWidth": 1.5},
        "header": {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "labelFontWeight": "bold"},
        "view": {"stroke": grid},
        "mark": {"color": _CATEGORIES[dark][0]},
        "rule": {"color": faint},
        "tick": {"color": ink},
        "text": {"color": ink, "fontSize": 11},
        "range": {"category": _CATEGORIES[dark], "ordinal": _OUTCOMES[dark], "ramp": _STANDINGS[dark]},
    }
