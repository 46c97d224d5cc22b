"""A chart's title, sentence, notes and panels → its specification, for a picture or for a page."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import altair as alt

from pytest_quantbench.report.charts.charted import Charted

MARGINS = 24  # left and right of a picture, in pixels
AXIS = 64  # what an axis takes beside a panel
NARROW = 230  # a panel among several, on any page
LETTER = 6.2  # pixels, in a subtitle
MOST_PANELS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a chart's panels are put on. `width` in pixels of all; None: of what a page has, which has its own headings
    and needs the notes only.
    """

    title: str
    tells: str
    width: int | None

    def panel_width(self, panels: int, columns: int = 2) -> int | Literal["container"]:
        """Of one of so many panels."""
        if self.width is None:
            return "container" if panels == 1 else NARROW
        side_by_side = min(panels, columns)
        return (self.width - MARGINS) // side_by_side - AXIS - (20 if side_by_side > 1 else 0)

    def nominal_width(self, panels: int, columns: int = 2) -> int:
        """A width in pixels that names can be laid out for."""
        width = self.panel_width(panels, columns)
        return 300 if width == "container" else width

    def finish(self, panels: Sequence[alt.LayerChart | alt.Chart], notes: Sequence[str], columns: int = 2) -> dict[str, Any]:
        """The specification as JSON values. Of several panels its `columns` stand side by side."""
        whole: Any = panels[0]
        if len(panels) > 1:
            side_by_side = 1 if self.width is None else columns
            whole = alt.concat(*panels, columns=side_by_side, spacing=20)
        shown = [note for note in notes if note]
        lines = [line for text in ([] if self.width is None else [self.tells]) + shown for line in self._wrapped(text)]
        heading = {"text": "" if self.width is None else self.title, **({"subtitle": lines} if lines else {})}
        if len(panels) > 1 or "title" not in whole._kwds or whole.title is alt.Undefined:
            whole = whole.properties(title=alt.TitleParams(**heading, offset=14))
        found: dict[str, Any] = whole.properties(description=f"{self.title}. {self.tells}").to_dict()
        return found

    def _wrapped(self, text: str) -> list[str]:
        return textwrap.wrap(text, int(((self.width or 340) - MARGINS) / LETTER))


def by_model(cells: Sequence[Charted]) -> list[tuple[str, list[Charted]]]:
    """The cells of each model, in the order of its first."""
    order = list(dict.fromkeys(cell.record.model_id for cell in cells))
    ordered = sorted(cells, key=lambda cell: order.index(cell.record.model_id))
    return [(model, list(group)) for model, group in groupby(ordered, key=lambda cell: cell.record.model_id)]


def left_out(kind: str, shown: int, there: int) -> str:
    """The note on what a picture has no room for; empty where it has."""
    return f"The first {shown} of {there} {kind} are shown." if shown < there else ""
