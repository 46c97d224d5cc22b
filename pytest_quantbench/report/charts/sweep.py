"""A sweep by batch, depth or length: for each model a panel with rates, and one with how many times BF16's they are."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import altair as alt

from pytest_quantbench.record.sweep_schema import SweepPoint
from pytest_quantbench.report.charts import scales, sheet, wording
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.charts.scatter import Groups
from pytest_quantbench.stats.estimates import Interval

HEIGHT = 220
SHORT = 256  # tokens, up to which an axis that begins at none is linear
MILLISECONDS = 1e3
Place = Callable[[SweepPoint], int | None]  # where a point lies on the chart; None: it is none of its points
Told = tuple[float, float, float] | None  # a figure, and from where to where its runs or its interval reach


def draw_batch(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """Decoding by how many texts go on together, at the depth of the batches."""
    depth = max((point.depth for point in _points(cells) if point.rows > 1 and point.kind == "decode"), default=None)
    return _draw(cells, on, lambda each: each.rows if (each.kind, each.depth) == ("decode", depth) else None, "texts")


def draw_depth(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """Decoding of one text by how long it is."""
    return _draw(
        cells, on, lambda each: each.depth if (each.kind, each.rows) == ("decode", 1) else None, "tokens before"
    )


def draw_prefill(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """Reading a prompt by how long it is."""
    return _draw(cells, on, _of_prefill, "tokens of the prompt")


def draw_first_token(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """The time to the first token by how long a prompt is."""
    return _draw(cells, on, _of_prefill, "tokens of the prompt", first_token=True)


def _of_prefill(point: SweepPoint) -> int | None:
    return point.depth if point.kind == "prefill" else None


def _points(cells: Sequence[Charted]) -> list[SweepPoint]:
    """All that were measured."""
    swept = [cell.record.sweep for cell in cells if cell.record.sweep is not None]
    return [point for sweep in swept for point in sweep.points if point.rate is not None]


def _draw(
    cells: Sequence[Charted], on: sheet.Sheet, place: Place, across: str, *, first_token: bool = False
) -> dict[str, Any] | None:
    swept = [cell for cell in cells if any(place(point) is not None for point in _points([cell]))]
    models = sheet.by_model(swept)
    if not models:
        return None
    shown = models[: sheet.MOST_PANELS // 2]
    recipes = list(dict.fromkeys(cell.record.recipe for _, own in shown for cell in own))
    groups = Groups(title="", names=recipes, width=on.legend_width)
    kinds = [(_milliseconds, "ms to the first token")] if first_token else [(_rate, "tokens per second")]
    kinds.append((_first_ratio if first_token else _ratio, "× BF16"))
    panels = []
    drawn = [
        (model, title, rows)
        for model, own in shown
        for figure, title in kinds
        if (rows := [row for cell in own for row in _rows(cell, place, figure)])
    ]
    width = on.panel_width(len(drawn))
    for model, title, rows in drawn:
        panels.append(_panel(on, rows, groups, width, model if len(shown) > 1 else "", (across, title)))
    for _, own in shown:
        for cell in own:
            on.tell(cell.record.model_id, cell.record.recipe, _words(cell, place, [each for each, _ in kinds]))
    return on.finish(panels, [sheet.left_out("models", len(shown), len(models))])


def _rate(point: SweepPoint) -> Told:
    found = point.rate
    return None if found is None else (found.mean, found.least, found.most)


def _milliseconds(point: SweepPoint) -> Told:
    found = point.first_token_sec
    return None if found is None else tuple(MILLISECONDS * each for each in (found.mean, found.least, found.most))  # type: ignore[return-value]


def _ratio(point: SweepPoint) -> Told:
    return _ends(point.ratio)


def _first_ratio(point: SweepPoint) -> Told:
    return _ends(point.first_token_ratio)


def _ends(found: Interval | None) -> Told:
    return None if found is None else (found.estimate, found.low, found.high)


def _rows(cell: Charted, place: Place, figure: Callable[[SweepPoint], Told]) -> list[dict[str, Any]]:
    rows = []
    for point in _points([cell]):
        where, told = place(point), figure(point)
        if where is not None and told is not None and min(told) > 0:
            value, low, high = told
            row = {"model": cell.record.model_id, "group": cell.record.recipe, "at": where, "value": value}
            rows.append(row | {"low": low, "high": high, "told": _told(told)})
    return sorted(rows, key=lambda row: row["at"])


def _told(told: tuple[float, float, float]) -> str:
    value, low, high = map(wording.number, told)
    return f"{value} ({low} to {high})"


def _words(cell: Charted, place: Place, figures: Sequence[Callable[[SweepPoint], Told]]) -> dict[str, str]:
    """A cell's figures at every place: what it is, and what of BF16's."""
    found = {row["at"]: [row["told"]] for row in _rows(cell, place, figures[0])}
    for row in _rows(cell, place, figures[1]):
        found[row["at"]].append(f"{row['told']} ×")
    return {f"{at:,}": ", ".join(parts) for at, parts in found.items()}


def _panel(
    on: sheet.Sheet,
    rows: Sequence[dict[str, Any]],
    groups: Groups,
    width: int | Literal["container"],
    model: str,
    titles: tuple[str, str],
) -> sheet.Drawn:
    at = [row["at"] for row in rows]
    across = scales.bent(titles[0], at, SHORT) if 0 in at else scales.logarithmic(titles[0], at)
    up = scales.logarithmic(titles[1], [row[end] for row in rows for end in ("low", "high")])
    places = sorted({row["at"] for row in rows})
    axis = alt.Axis(title=titles[0], values=places, labelExpr="format(datum.value, ',')", labelOverlap="greedy")
    x, y = alt.X("at:Q", scale=across.scale, axis=axis), alt.Y("value:Q", scale=up.scale, axis=up.axis)
    tooltip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("group:N", title="cell"),
        alt.Tooltip("at:Q", title=titles[0]),
        alt.Tooltip("told:N", title=titles[1]),
    ]
    marks = alt.Chart(on.rows(rows))
    layers = [
        marks.mark_line(strokeWidth=1.4).encode(x=x, y=y, color=groups.colour()),
        marks.mark_rule(strokeWidth=1.2, opacity=0.7).encode(
            x=x, y=alt.Y("low:Q", scale=up.scale, title=up.title), y2=alt.Y2("high"), color=groups.colour()
        ),
        marks.mark_point(filled=True, size=45, opacity=1).encode(
            x=x, y=y, color=groups.colour(), shape=groups.shape(), tooltip=tooltip
        ),
    ]
    return sheet.panel(layers, width, HEIGHT, sheet.heading(model) if model else None)
