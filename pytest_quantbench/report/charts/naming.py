"""Names of points as a chart's rows and layers: where `labels` puts them, at each of the widths of a panel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from pytest_quantbench.report.charts import labels
from pytest_quantbench.report.charts.labels import Place

WIDE = 470  # pixels of a panel: where it is as wide as its page, names have one place below, another from here on
NARROW_WIDTHS, WIDE_WIDTHS = (240, 290, 350, WIDE), (WIDE, 600, 780, 1050, 1400)  # that names are laid out for


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """A name's places: at each layout of the panel one, or None where there is no room for it."""

    label: str
    places: Sequence[Place | None]

    def fields(self) -> dict[str, Any]:
        """What a point's row holds of them."""
        row: dict[str, Any] = {}
        for prefix, place in zip(("", "wide_"), self.places, strict=False):
            if place is None:
                continue
            row |= {f"{prefix}label": self.label, f"{prefix}align": place.align}
            row |= {f"{prefix}dx": place.dx, f"{prefix}dy": place.dy}
            row |= dict(zip((f"{prefix}end_x", f"{prefix}end_y"), place.end, strict=True)) if place.led else {}
        return row


def layouts(width: int | str) -> list[tuple[float, ...]]:
    """The widths in pixels that each layout of names holds for: one of a panel with a width of its own, two of one that
    is as wide as its page.
    """
    return [(float(width),)] if isinstance(width, int) else [NARROW_WIDTHS, WIDE_WIDTHS]


def layers(
    data: alt.NamedData, x: alt.X, y: alt.Y, rows: Sequence[Mapping[str, Any]], several: bool
) -> list[alt.Chart]:
    """The lines that lead to names, and the names. `several`: layouts, which the panel's width chooses from."""

    def field(name: str, otherwise: str) -> Any:
        wide = f"width < {WIDE} ? datum.{name} : datum.wide_{name}" if several else f"datum.{name}"
        return alt.expr(f"({wide}) || {otherwise}")

    base = alt.Chart(data)
    found = []
    if any("end_x" in row or "wide_end_x" in row for row in rows):
        ends: dict[str, Any] = {"x2Offset": field("end_x", "0"), "y2Offset": field("end_y", "0")}
        channels = {"x2": alt.X2(x.shorthand.removesuffix(":Q")), "y2": alt.Y2(y.shorthand.removesuffix(":Q"))}
        found.append(base.mark_rule(strokeWidth=0.7, **ends).encode(x=x, y=y, **channels))
    if any("label" in row or "wide_label" in row for row in rows):
        places: dict[str, Any] = {"align": field("align", "'left'"), "dx": field("dx", "0"), "dy": field("dy", "0")}
        text = base.mark_text(text=field("label", "''"), baseline="middle", **places)
        found.append(text.encode(x=x, y=y))
    return found


def laid_out(names: Sequence[str], views: Sequence[Sequence[labels.View]]) -> list[Naming]:
    """Each name with a place for each layout, of which `views` has what the panel looks like at its widths."""
    short = labels.short_of_all(names)
    places = [labels.lay_out(views_of_one, short) for views_of_one in views]
    return [Naming(label=label, places=own) for label, *own in zip(short, *places, strict=True)]
