"""How long tokens take, up to the slowest in a thousand: a panel for each model, a line for each recipe."""

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

from pytest_quantbench.report.charts import scales, sheet, wording
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.charts.scatter import Groups
from pytest_quantbench.stats import tails

ARRAY = "throughput/latencies_seconds"
HEIGHT = 230
MILLISECONDS = 1e3
# Percentiles lie where a logarithm of what is beyond them puts them.
PLACES = [1 - percent / 100 for percent in tails.MARKED]
NAMES = "'p' + format(100 * (1 - datum.value), '~r')"


def draw(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """A panel for each of the first models that were timed."""
    timed = [cell for cell in cells if ARRAY in cell.arrays and (cell.arrays[ARRAY] > 0).any()]
    models = sheet.by_model(timed)
    if not models:
        return None
    shown = models[: sheet.MOST_PANELS]
    recipes = list(dict.fromkeys(cell.record.recipe for _, own in shown for cell in own))
    groups = Groups(title="", names=recipes, width=on.legend_width)
    panels = [
        _panel(on, own, groups, on.panel_width(len(shown)), model if len(shown) > 1 else "") for model, own in shown
    ]
    return on.finish(panels, [sheet.left_out("models", len(shown), len(models))])


def _panel(
    on: sheet.Sheet, cells: Sequence[Charted], groups: Groups, width: int | Literal["container"], title: str
) -> sheet.Drawn:
    lines, points = [row for cell in cells for row in _line(cell)], [row for cell in cells for row in _marks(cell)]
    y = scales.logarithmic("time between tokens, ms", [row["ms"] for row in [*lines, *points]])
    far = min(row["beyond"] for row in lines)
    where = alt.X("beyond:Q", title="percentile of the token gaps").scale(type="log", domain=[1, far], nice=False)
    x = where.axis(
        values=[place for place in PLACES if place >= far * 0.999],
        labelExpr=NAMES,
        labelOverlap="greedy",
        labelSeparation=6,
    )
    up = alt.Y("ms:Q", scale=y.scale, axis=y.axis)
    tooltip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("group:N", title="cell"),
        alt.Tooltip("percentile:N"),
        alt.Tooltip("ms:Q", format=".4~g"),
    ]
    marks = alt.Chart(on.rows(points))
    layers = [
        alt.Chart(on.rows(lines)).mark_line(strokeWidth=1.4).encode(x=x, y=up, color=groups.colour()),
        marks.mark_rule(strokeWidth=1.2, opacity=0.7).encode(
            x=x, y=alt.Y("low:Q", scale=y.scale, title=y.title), y2=alt.Y2("high"), color=groups.colour()
        ),
        marks.mark_point(filled=True, size=45, opacity=1).encode(
            x=x, y=up, color=groups.colour(), shape=groups.shape(), tooltip=[*tooltip, alt.Tooltip("interval:N")]
        ),
    ]
    for cell in cells:
        on.tell(cell.record.model_id, cell.record.recipe, _told(points, cell.record.recipe))
    return sheet.panel(layers, width, HEIGHT, sheet.heading(title) if title else None)


def _told(points: Sequence[dict[str, Any]], recipe: str) -> dict[str, str]:
    """A cell's percentiles in words, with their intervals."""
    mine = [point for point in points if point["group"] == recipe]
    return {f"{each['percentile']}, ms": f"{wording.number(each['ms'])} ({each['interval']})" for each in mine}


def _line(cell: Charted) -> list[dict[str, Any]]:
    shares, seconds = tails.curve(cell.arrays[ARRAY])
    return [
        {"group": cell.record.recipe, "beyond": round(float(share), 6), "ms": float(f"{MILLISECONDS * value:.4g}")}
        for share, value in zip(shares, seconds, strict=True)
        if value > 0
    ]


def _marks(cell: Charted) -> list[dict[str, Any]]:
    """The percentiles that are usually named, with intervals where the record has them."""
    known = {} if cell.record.throughput is None else cell.record.throughput.gap_sec
    rows: list[dict[str, Any]] = []
    for percent, seconds in tails.marked(cell.arrays[ARRAY]).items():
        interval = known.get(f"{percent:g}")
        ends = (None, None) if interval is None else (interval.low, interval.high)
        low, high = (MILLISECONDS * (seconds if end is None else end) for end in ends)  # an unknown end is not drawn
        told = "–" if None in ends else f"{wording.number(low)} to {wording.number(high)} ms"
        row: dict[str, Any] = {"model": cell.record.model_id, "group": cell.record.recipe}
        row |= {"beyond": round(1 - percent / 100, 6), "ms": MILLISECONDS * seconds}
        row |= {"low": low, "high": high, "percentile": f"p{percent:g}", "interval": told}
        rows += [row] if low > 0 else []
    return rows
