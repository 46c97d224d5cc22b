"""Which matrices lost the most: SNR by layer and kind of matrix, or of several models by layer and recipe."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from pytest_quantbench.report.charts import matrices, sheet
from pytest_quantbench.report.charts.charted import Charted
from pytest_quantbench.report.charts.matrices import Matrix

MOST_DB = 10.0  # of a difference from the median: larger ones have its colour
COLUMNS = 3
MOST_CELLS = 12
ROW, LEAST_HEIGHT, MOST_HEIGHT = 14, 70, 400  # pixels
MOST_NUMBERS = 12  # of layers, beside a panel
OUTSIDE = "outside"


def draw(cells: Sequence[Charted], on: sheet.Sheet) -> dict[str, Any] | None:
    """A panel for each cell of one model, or for each of several models, with the worst of each layer's matrices."""
    models = [(model, [matrices.matrices(cell) for cell in own]) for model, own in sheet.by_model(cells)]
    known = [(model, there) for model, own in models if (there := [each for each in own if each])]
    if not known:
        return None
    if len(known) == 1:
        every = known[0][1]
        tables = [(_heading(own), matrices.worst_of(own, lambda each: each.kind)) for own in every[:MOST_CELLS]]
        notes = [sheet.left_out("cells", len(tables), len(every))]
    else:
        kept = known[: sheet.MOST_PANELS]
        tables = [
            ([model], matrices.worst_of([each for cell in own for each in cell], lambda each: each.recipe))
            for model, own in kept
        ]
        notes = ["Of each layer its worst matrix.", sheet.left_out("models", len(kept), len(known))]
    width = on.panel_width(max(2, len(tables)), COLUMNS)
    assert isinstance(width, int)
    reach = _reach([each for _, table in tables for _, each in table])
    return on.finish([_panel(on, heading, table, reach, width) for heading, table in tables], notes, COLUMNS)


def _heading(own: Sequence[Matrix]) -> list[str]:
    worst = min(own, key=lambda each: each.snr_db)
    where = worst.kind if worst.layer is None else f"layer {worst.layer} {worst.kind}"
    return [
        own[0].recipe,
        f"median {matrices.told(worst.snr_db - worst.difference)}",
        f"worst {matrices.told(worst.snr_db)}, {where}",
    ]


def _reach(found: Sequence[Matrix]) -> float:
    """How far the colours reach on both sides of the median."""
    return min(MOST_DB, max([1.0, *(abs(each.difference) for each in found if math.isfinite(each.difference))]))


def _panel(
    on: sheet.Sheet, heading: Sequence[str], table: Sequence[tuple[str, Matrix]], reach: float, width: int
) -> sheet.Drawn:
    worst = _worst_of_each(table)
    rows: list[dict[str, Any]] = [
        {
            "model": each.model,
            "column": column,
            "layer": OUTSIDE if each.layer is None else str(each.layer),
            "difference": round(each.difference, 2) if math.isfinite(each.difference) else None,
            "SNR": matrices.told(each.snr_db),
            "from the median": "–" if math.isinf(each.difference) else f"{each.difference:+.1f} dB",
            "matrix": each.name,
            "recipe": each.recipe,
            "method": f"{each.quantizer}, {each.bits_per_weight:.2f} bits per weight",
            "worst": each is worst[each.recipe],
        }
        for column, each in table
    ]
    for row in rows:
        titles = ("layer", "matrix", "SNR", "from the median", "method")
        on.tell(row["model"], row["recipe"], {title: row[title] for title in titles})
    numbers = sorted({each.layer for _, each in table if each.layer is not None})
    names = [*map(str, numbers), *([OUTSIDE] if any(each.layer is None for _, each in table) else [])]
    every = max(1, math.ceil(len(numbers) / MOST_NUMBERS))
    x = alt.X("column:N", title=None, sort=None).axis(labelAngle=-45, domain=False, ticks=False)
    y = alt.Y("layer:O", title="layer").scale(domain=names)
    y = y.axis(values=[*map(str, numbers[::every]), *names[len(numbers) :]], domain=False, ticks=False)
    colour = alt.Color(
        "difference:Q", legend=alt.Legend(title="dB from the median", orient="bottom", direction="horizontal")
    )
    colour = colour.scale(scheme="purpleorange", reverse=True, domain=[-reach, reach], clamp=True)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("model", "recipe", "matrix", "SNR", "from the median", "method")]
    base = alt.Chart(on.rows(rows))
    layers = [
        base.mark_rect().encode(x=x, y=y, color=colour, tooltip=tooltip),
        base.transform_filter("datum.worst").mark_rect(filled=False, strokeWidth=2, stroke="#d00000").encode(x=x, y=y),
    ]
    height = min(MOST_HEIGHT, max(LEAST_HEIGHT, ROW * len(names)))
    return sheet.panel(layers, width, height, sheet.heading(heading[0], heading[1:]))


def _worst_of_each(table: Sequence[tuple[str, Matrix]]) -> dict[str, Matrix]:
    """The worst matrix of each recipe in a panel."""
    found: dict[str, Matrix] = {}
    for _, each in table:
        if each.recipe not in found or each.difference < found[each.recipe].difference:
            found[each.recipe] = each
    return found
