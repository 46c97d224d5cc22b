"""T2 by depth: a panel for each model, a line for each recipe, a point for each stratum of tokens in front."""

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

from pytest_quantbench.record.perplexity_schema import AtDepth
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.charts import limits, scales, sheet, wording
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.charts.scatter import Groups
from pytest_quantbench.report.charts.wording import LOSSES
from pytest_quantbench.stats.depths import named
from pytest_quantbench.stats.estimates import Interval

HEIGHT = 260
FEWEST = 2  # strata: with one there is nothing to see
LIMIT = "depth_perplexity_delta"


def draw(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """A panel for each of the first models that have a cell with a quantized cache, and windows over several strata."""
    told = [cell for cell in cells if len(_strata(cell.record)) >= FEWEST]
    models = [(model, own) for model, own in sheet.by_model(told) if any(cell.record.cache for cell in own)]
    if not models:
        return None
    shown = models[: sheet.MOST_PANELS]
    recipes = list(dict.fromkeys(cell.record.recipe for _, own in shown for cell in own))
    groups = Groups(title="", names=recipes, width=on.legend_width)
    width = on.panel_width(len(shown))
    panels = [
        _panel(on, [cell.record for cell in own], groups, width, model if len(shown) > 1 else "")
        for model, own in shown
    ]
    return on.finish(panels, [sheet.left_out("models", len(shown), len(models))])


def _strata(record: Record) -> list[tuple[AtDepth, Interval]]:
    """Those with an interval."""
    parts = () if record.perplexity is None else record.perplexity.by_depth
    return [(part, part.delta_interval) for part in parts if part.delta_interval is not None]


def _panel(
    on: sheet.Sheet, records: Sequence[Record], groups: Groups, width: int | Literal["container"], title: str
) -> sheet.Drawn:
    found = [(record, part, interval) for record in records for part, interval in _strata(record)]
    asked = sorted({limit for record in records for limit in limits.of(record, LIMIT)})
    ends = [end for _, _, interval in found for end in (interval.low, interval.high)]
    axis = scales.bent(LOSSES["delta"].title, [*ends, *asked], LOSSES["delta"].constant)
    names = [named(above, up_to) for above, up_to in sorted({(part.above, part.up_to) for _, part, _ in found})]
    rows = [_row(record, part, interval, axis) for record, part, interval in found]
    for record in records:
        mine = {row["depth"]: row["interval"] for row in rows if row["group"] == record.recipe}
        on.tell(record.model_id, record.recipe, {f"ΔPPL at {name}": mine.get(name, "–") for name in names})
    x = alt.X("depth:O", title="tokens that are looked back on", sort=names).axis(labelAngle=0, grid=False)
    y = alt.Y("estimate:Q", scale=axis.scale, axis=axis.axis)
    beside, colour, base = alt.XOffset("group:N", sort=list(groups.names)), groups.colour(), alt.Chart(on.rows(rows))
    tooltip = [alt.Tooltip("group:N", title="cell"), *(alt.Tooltip(f"{name}:N") for name in ("depth", "interval"))]
    layers = [
        base.mark_line(strokeWidth=1.4, opacity=0.7).encode(x=x, y=y, xOffset=beside, color=colour),
        base.mark_rule(strokeWidth=2, opacity=0.7).encode(
            x=x,
            xOffset=beside,
            y=alt.Y("low:Q", scale=axis.scale, title=axis.title),
            y2=alt.Y2("high"),
            color=colour,
        ),
        base.mark_point(filled=True, size=50, opacity=1).encode(
            x=x, y=y, xOffset=beside, color=colour, shape=groups.shape(), tooltip=tooltip
        ),
    ]
    if asked:
        dashes = alt.Chart(on.rows([{"limit": limit} for limit in asked])).mark_rule(strokeDash=[4, 3], strokeWidth=1.5)
        layers.insert(0, dashes.encode(y=alt.Y("limit:Q", scale=axis.scale, title=axis.title)))
    return sheet.panel(layers, width, HEIGHT, sheet.heading(title) if title else None)


def _row(record: Record, part: AtDepth, interval: Interval, axis: scales.Axis) -> dict[str, Any]:
    low, estimate, high = map(axis.within, (interval.low, interval.estimate, interval.high))
    told = wording.interval(interval)
    row: dict[str, Any] = {"group": record.recipe, "depth": named(part.above, part.up_to), "interval": told}
    return row | {"low": low, "estimate": estimate, "high": high}
