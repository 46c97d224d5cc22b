"""What is found again, as a map of depth and hops: a panel for BF16, and one for each recipe with its outcomes."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from pytest_quantbench.record.retrieval_schema import RetrievalStratum
from pytest_quantbench.record.schema import Record
from pytest_quantbench.report.charts import sheet
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.tables import MARKS, interval
from pytest_quantbench.stats.depths import named

REFERENCE = "BF16"
COLUMNS = 3
ROW, CEILING = 34, 1.0  # pixels; an accuracy
DARK = 0.62  # on a square from this accuracy on, letters are white


def draw(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """Panels of each model's cells that were asked, behind BF16's answers to the same questions."""
    asked = [cell.record for cell in cells if _strata(cell.record) and cell.record.retrieval]
    compared = [record for record in asked if _strata(record)[0].accuracy.bf16_accuracy is not None]
    if not compared:
        return None
    shown = compared[: sheet.MOST_PANELS - 1]
    several = len({record.model_id for record in shown}) > 1
    panels: list[tuple[str, list[dict[str, Any]]]] = []
    for place, record in enumerate(shown):
        name = f"{record.model_id} " if several else ""
        if place == 0 or shown[place - 1].model_id != record.model_id:
            panels.append((f"{name}{REFERENCE}", [_of_reference(each) for each in _strata(record)]))
        panels.append((f"{name}{record.recipe}", [_row(record, each) for each in _strata(record)]))
        on.tell(record.model_id, record.recipe, _told(record))
    width = on.panel_width(max(2, len(panels)), COLUMNS)
    assert isinstance(width, int)
    marked = any(_sign(each) == MARKS["informational"] for record in shown for each in _strata(record))
    unable = f"{MARKS['informational']}: BF16 cannot do it." if marked else ""
    notes = [unable, sheet.left_out("cells", len(shown), len(compared))]
    return on.finish([_panel(on, title, rows, width) for title, rows in panels], notes, COLUMNS)


def _strata(record: Record) -> Sequence[RetrievalStratum]:
    return () if record.retrieval is None else record.retrieval.strata


def _of_reference(each: RetrievalStratum) -> dict[str, Any]:
    right = each.accuracy.bf16_accuracy or 0.0
    return _square(each, right, f"{100 * right:.0f}")


def _row(record: Record, each: RetrievalStratum) -> dict[str, Any]:
    right, sign = each.accuracy.accuracy, _sign(each)
    drop = interval(each.accuracy.drop_points, 1, "+")
    found = _square(each, right, f"{100 * right:.0f} {sign}".rstrip())
    return found | {"drop": drop, "recipe": record.recipe, "outcome": each.outcome or ""}


def _sign(each: RetrievalStratum) -> str:
    """Of the outcome; where nothing is judged, of what BF16 cannot do alone."""
    if each.outcome is None or (each.outcome == "informational" and each.reference != "cannot"):
        return ""
    return MARKS[each.outcome]


def _square(each: RetrievalStratum, right: float, told: str) -> dict[str, Any]:
    hops = f"{each.hops} hop{'' if each.hops == 1 else 's'}"
    return {"depth": named(each.above, each.up_to), "hops": hops, "right": right, "told": told}


def _told(record: Record) -> dict[str, str]:
    return {
        f"{named(each.above, each.up_to)}, {each.hops} hops": f"{100 * each.accuracy.accuracy:.0f} %, drop "
        f"{interval(each.accuracy.drop_points, 1)}"
        for each in _strata(record)
    }


def _panel(on: sheet.Sheet, title: str, rows: list[dict[str, Any]], width: int) -> sheet.Drawn:
    depths, hops = (list(dict.fromkeys(row[name] for row in rows)) for name in ("depth", "hops"))
    x = alt.X("depth:N", title="tokens before the question", sort=depths).axis(labelAngle=0, domain=False, ticks=False)
    y = alt.Y("hops:N", title=None, sort=hops).axis(domain=False, ticks=False)
    colour = alt.Color("right:Q", legend=None).scale(scheme="blues", domain=[0, CEILING])
    tooltip = [alt.Tooltip(f"{name}:N") for name in rows[0] if name != "right"]
    base = alt.Chart(on.rows(rows))
    letters = alt.condition(f"datum.right >= {DARK}", alt.value("#ffffff"), alt.value("#24292f"))
    layers = [
        base.mark_rect().encode(x=x, y=y, color=colour, tooltip=tooltip),
        base.mark_text(baseline="middle").encode(x=x, y=y, text="told:N", color=letters),
    ]
    return sheet.panel(layers, width, ROW * len(hops), sheet.heading(title))
