"""What loading takes, stage by stage: a panel for each model, two bars for each recipe, of loads cold and warm."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import altair as alt

from pytest_quantbench.measures.load.samples import STAGES
from pytest_quantbench.record.load_schema import Load, Loads
from pytest_quantbench.report.charts import sheet, wording
from pytest_quantbench.report.charts.charted import Charted

ROW_HEIGHT = 26  # pixels of a bar

KINDS = {"cold": "on disk", "warm": "in memory"}


def draw(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """A panel for each of the first models that were loaded."""
    loaded = [cell for cell in cells if cell.record.load is not None and any(_kinds(cell.record.load))]
    models = sheet.by_model(loaded)
    if not models:
        return None
    shown = models[: sheet.MOST_PANELS]
    panels = [_panel(on, own, on.panel_width(len(shown), 1), model if len(shown) > 1 else "") for model, own in shown]
    return on.finish(panels, [sheet.left_out("models", len(shown), len(models))], 1)


def _kinds(part: Load) -> Iterator[tuple[str, Loads]]:
    """The loads that there are, by what stands beside their bar."""
    found = {"cold": part.cold, "warm": part.warm}
    return ((told, each) for name, told in KINDS.items() if (each := found[name]) is not None)


def _panel(on: sheet.Sheet, cells: Sequence[Charted], width: int | Literal["container"], title: str) -> sheet.Drawn:
    parts = [row for cell in cells for row in _parts(cell)]
    wholes = [row for cell in cells for row in _wholes(cell)]
    bars = list(dict.fromkeys(row["bar"] for row in wholes))
    y = alt.Y("bar:N", title=None, sort=bars)
    x = alt.X("seconds:Q", title="seconds from the process's birth to the first token").stack("zero")
    colour = alt.Color("stage:N", title="", sort=list(STAGES)).legend(orient="bottom", columns=5)
    order = alt.Order("place:Q")
    told = [alt.Tooltip("bar:N", title="cell"), alt.Tooltip("stage:N"), alt.Tooltip("seconds:Q", format=".3~g")]
    ends = alt.X("least:Q", title="seconds from the process's birth to the first token")
    layers = [
        alt.Chart(on.rows(parts))
        .mark_bar(height={"band": 0.75})
        .encode(x=x, y=y, color=colour, order=order, tooltip=told),
        alt.Chart(on.rows(wholes)).mark_rule(strokeWidth=1.5).encode(x=ends, x2=alt.X2("most"), y=y),
    ]
    for cell in cells:
        on.tell(cell.record.model_id, cell.record.recipe, _told(cell))
    return sheet.panel(layers, width, ROW_HEIGHT * len(bars), sheet.heading(title) if title else None)


def _bar(cell: Charted, kind: str) -> str:
    return f"{cell.record.recipe}, {kind}"


def _parts(cell: Charted) -> list[dict[str, Any]]:
    assert cell.record.load is not None
    return [
        {"bar": _bar(cell, kind), "stage": stage, "place": place, "seconds": round(found.stage_sec[stage].mean, 4)}
        for kind, found in _kinds(cell.record.load)
        for place, stage in enumerate(STAGES)
        if stage in found.stage_sec
    ]


def _wholes(cell: Charted) -> list[dict[str, Any]]:
    assert cell.record.load is not None
    return [
        {
            "bar": _bar(cell, kind),
            "least": round(found.first_token_sec.least, 4),
            "most": round(found.first_token_sec.most, 4),
        }
        for kind, found in _kinds(cell.record.load)
    ]


def _told(cell: Charted) -> dict[str, str]:
    """A cell's seconds in words, with their ratios to BF16."""
    assert cell.record.load is not None
    found = {}
    for kind, each in _kinds(cell.record.load):
        total = each.first_token_sec
        found[f"{kind}, s"] = (
            f"{wording.number(total.mean)} ({wording.number(total.least)} to {wording.number(total.most)})"
        )
        if each.ratio is not None:
            found[f"{kind}, × BF16"] = wording.interval(each.ratio)
    return found
