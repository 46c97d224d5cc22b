"""Figures of recipes of the key-value cache → JSON, markdown, and a chart of what answers lose by what is stored."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from pytest_quantbench.report import charts, markdown_table
from pytest_quantbench.storage.files import write_atomically
from pytest_quantbench.workbench.cache_side_by_side import CacheFigures

COLUMNS = ("recipe", "bits/number", "error of answers", "SNR of keys, dB", "SNR of values, dB")
TITLE = "What attention answers otherwise, by stored bits"
TELLS = (
    "Each recipe of the key-value cache: lower and further left is better. The error is that of what attention answers "
    "queries over the second half of a text, as a share of the answers."
)
WIDTH, PANEL, HEIGHT = 1000, 400, 300


def save(figures: Sequence[CacheFigures], directory: Path) -> list[Path]:
    """Write caches.json, caches.md and, where charts can be drawn, caches.svg. Raises DiskError where that fails."""
    paths = [directory / "caches.json", directory / "caches.md"]
    write_atomically(paths[0], msgspec.json.format(msgspec.json.encode(list(figures)), indent=1))
    write_atomically(paths[1], markdown(figures).encode())
    if not charts.missing():
        paths.append(directory / "caches.svg")
        write_atomically(paths[-1], charts.svg(draw(figures)))
    return paths


def markdown(figures: Sequence[CacheFigures]) -> str:
    """A table for every scene, the recipes by what they store."""
    lines = ["# Recipes of the key-value cache on the same keys and values", ""]
    for scene, rows in groupby(sorted(figures, key=lambda row: row.scene), key=lambda row: row.scene):
        found = sorted(rows, key=lambda row: (-row.bits_per_number, row.answer_error))
        lines += [f"## {scene}, {found[0].tokens:,} tokens", "", *markdown_table.head(COLUMNS), *map(_row, found), ""]
    return "\n".join(lines)


def _row(row: CacheFigures) -> str:
    shown = [
        f"{row.bits_per_number:.2f}",
        f"{row.answer_error:.4f}",
        f"{row.key_snr_db:.1f}",
        f"{row.value_snr_db:.1f}",
    ]
    return markdown_table.row([row.recipe, *shown])


def draw(figures: Sequence[CacheFigures]) -> dict[str, Any]:
    """The chart's specification: a panel for every scene."""
    import altair as alt

    from pytest_quantbench.report.charts import scatter, sheet

    on = sheet.Sheet(title=TITLE, tells=TELLS, width=WIDTH)
    names = sorted({row.recipe for row in figures})
    groups = scatter.Groups(title="recipe", names=names, width=on.legend_width)
    x = alt.X("bits:Q", title="stored bits for a number").scale(zero=True)
    y = alt.Y("error:Q", title="error of answers").scale(type="log")
    panels = []
    for scene in dict.fromkeys(row.scene for row in figures):
        rows = [
            {"group": row.recipe, "bits": round(row.bits_per_number, 3), "error": round(row.answer_error, 6)}
            for row in figures
            if row.scene == scene
        ]
        tooltip = [alt.Tooltip("group:N", title="recipe"), alt.Tooltip("bits:Q"), alt.Tooltip("error:Q")]
        points = alt.Chart(on.rows(rows)).mark_point(filled=True, size=60, opacity=1)
        layer = points.encode(x=x, y=y, color=groups.colour(), shape=groups.shape(), tooltip=tooltip)
        panels.append(sheet.panel([layer], PANEL, HEIGHT, sheet.heading(scene)))
    return on.finish(panels, [], columns=2)
