"""How a check went on while it was undecided: the interval at each look, and the limit."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import altair as alt

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.judge.verdict import Look, Outcome, Verdict
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.charts import scales, sheet, wording
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.charts.labels import short
from pytest_quantbench.report.charts.scatter import Groups

COLUMNS = 3
MOST_CHECKS = 12
HEIGHT = 150
TITLES = {"perplexity_delta": "ΔPPL vs BF16"}


def draw(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """A panel for every check with several looks; of many those that are undecided first, then by their looks."""
    found = [(cell.record, verdict) for cell in cells for verdict in cell.record.verdicts if _went_on(verdict)]
    if not found:
        return None
    found.sort(key=lambda each: (each[1].outcome != "undecided", -len(each[1].looks)))
    shown = found[:MOST_CHECKS]
    several = len({record.model_id for record, _ in shown}) > 1
    width = on.panel_width(len(shown), COLUMNS)
    groups = Groups(title="at this look", names=get_args(Outcome)[:4], width=on.legend_width, colours="ordinal")
    panels = [_panel(on, record, verdict, groups, several, width) for record, verdict in shown]
    note = sheet.left_out("checks", len(shown), len(found))
    note += " Undecided ones come first, then those with the most looks." if note else ""
    return on.finish(panels, [note], COLUMNS)


def _went_on(verdict: Verdict) -> bool:
    estimated = any(look.estimate is not None for look in verdict.looks)
    return len(verdict.looks) > 1 and verdict.limit is not None and estimated


def _panel(
    on: sheet.Sheet,
    record: Record,
    verdict: Verdict,
    groups: Groups,
    several: bool,
    width: int | Literal["container"],
) -> sheet.Drawn:
    metric = METRICS[verdict.metric]
    unit = f", {metric.unit}" if metric.unit else ""
    axis = _axis(f"{TITLES.get(verdict.metric, metric.label)}{unit}", verdict)
    names = {"model": record.model_id, "recipe": record.recipe}
    rows = [names | _row(look, axis) for look in verdict.looks]
    for row in rows:
        check = " ".join(each for each in (metric.label, f"on {verdict.of}" if verdict.of else "") if each)
        figures = {"check": check, "after": f"{row['items']} {metric.items}", "interval": row["interval"]}
        shown = figures | {"confidence": row["confidence"], "limit": wording.number(verdict.limit or 0.0)}
        on.tell(record.model_id, record.recipe, shown | {"outcome": row["outcome"]})
    x = alt.X("items:O", title=metric.items, sort=None).axis(labelAngle=0, labelOverlap="greedy", grid=False)
    y = alt.Y("estimate:Q", scale=axis.scale, axis=axis.axis)
    base = alt.Chart(on.rows(rows))
    colour, shape = groups.colour(), groups.shape()
    tooltip = [alt.Tooltip(f"{name}:N") for name in (*names, "items", "interval", "confidence", "outcome")]
    limit = alt.Chart(on.rows([{"limit": verdict.limit}])).mark_rule(strokeDash=[4, 3], strokeWidth=1.5)
    what = ", ".join(each for each in (short(verdict.of), verdict.outcome) if each)
    below = [f"{short(record.recipe)}, {what}"] if several else [what]
    layers = [
        limit.encode(y=alt.Y("limit:Q", scale=axis.scale, title=axis.title)),
        base.mark_rule(strokeWidth=2, opacity=0.7).encode(
            x=x, y=alt.Y("low:Q", scale=axis.scale, title=axis.title), y2=alt.Y2("high"), color=colour
        ),
        base.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip),
    ]
    return sheet.panel(layers, width, HEIGHT, sheet.heading(record.model_id if several else record.recipe, below))


def _row(look: Look, axis: scales.Axis) -> dict[str, Any]:
    """A look; an end of its interval about which nothing could be said yet is that of the axis."""
    given = (axis.low if look.low is None else look.low), (axis.high if look.high is None else look.high)
    low, high = map(axis.within, given)
    ends = ["–" if end is None else wording.number(end) for end in (look.estimate, look.low, look.high)]
    return {
        "items": f"{look.items:,}",
        "estimate": None if look.estimate is None else axis.within(look.estimate),
        "low": low,
        "high": high,
        "interval": f"{ends[0]} [{ends[1]}, {ends[2]}]",
        "confidence": f"{100 * (1 - 2 * look.alpha):.4g} %",
        "group": look.outcome,
        "outcome": look.outcome + (", the last look" if look.last else ""),
    }


def _axis(title: str, verdict: Verdict) -> scales.Axis:
    """Wide enough for all estimates, the limit and the last interval; those of early looks reach beyond it."""
    last = verdict.looks[-1]
    ends = [end for look in verdict.looks for end in (look.estimate,) if end is not None]
    ends += [end for end in (verdict.limit, last.low, last.high) if end is not None]
    room = 0.25 * (max(ends) - min(ends))
    return scales.linear(title, [min(ends) - room, max(ends) + room])
