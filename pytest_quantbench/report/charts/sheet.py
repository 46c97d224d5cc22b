"""A chart's title, sentence, notes and panels → its specification, for a picture or for a page."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, TypeAlias

import altair as alt

from pytest_quantbench.report.charts import labels
from pytest_quantbench.report.charts.charted import Charted

MARGINS = 24  # left and right of a picture, in pixels
AXIS = 64  # what an axis takes beside a panel
NARROW = 230  # a panel among several, on any page
LETTER = 5.7  # pixels, in a subtitle
MOST_PANELS = 10
MOST_LETTERS = 28  # of a panel's name

Row: TypeAlias = dict[str, Any]  # of data: JSON values by name
Drawn: TypeAlias = alt.LayerChart | alt.FacetChart  # what altair calls a panel of layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a chart's panels are put on. `width` in pixels of all; None: of what a page has, which has its own headings
    and needs the notes only.
    """

    title: str
    tells: str
    width: int | None
    datasets: dict[str, Sequence[Row]] = field(default_factory=dict, repr=False, compare=False)

    def rows(self, values: Sequence[Row]) -> alt.NamedData:
        """The values as a chart's data. They stand once at the end of the specification, by name: altair copies and
        checks all that it is given many times over.
        """
        name = f"rows-{len(self.datasets) + 1}"
        self.datasets[name] = values
        return alt.NamedData(name)

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

    @property
    def legend_width(self) -> int:
        """Pixels that a legend may take."""
        return (self.width or 340) - MARGINS - AXIS

    def finish(self, panels: Sequence[Drawn], notes: Sequence[str], columns: int = 2) -> dict[str, Any]:
        """The specification as JSON values. Of several panels its `columns` stand side by side.

        Panels are put together here: altair would copy and check each of them again with all its layers. That the whole
        is one of Vega-Lite's, tests see to.
        """
        drawn = [panel.to_dict(validate=False) for panel in panels]
        lines = [line for text in ([] if self.width is None else [self.tells], notes) for line in self._wrapped(text)]
        whole: dict[str, Any] = {"$schema": drawn[0]["$schema"], "description": f"{self.title}. {self.tells}"}
        for panel in drawn:
            del panel["$schema"], panel["config"]  # sizes that altair gives to panels without any
        if len(drawn) > 1:
            whole |= {"concat": drawn, "columns": 1 if self.width is None else columns, "spacing": 20}
        else:
            own = drawn[0].pop("title", {})  # what a panel by itself is of stands with the notes
            lines += [", ".join([own["text"], *own.get("subtitle", [])])] if own else []
            whole |= drawn[0]
        title = "" if self.width is None else self.title
        if title or lines:
            whole["title"] = {"text": title, "subtitle": lines, "offset": 14}
        return whole | {"datasets": dict(self.datasets)}

    def _wrapped(self, texts: Sequence[str]) -> list[str]:
        letters = int(((self.width or 340) - MARGINS) / LETTER)
        return [line for text in texts for line in textwrap.wrap(text, letters)]


def heading(name: str, below: Sequence[str] = ()) -> alt.TitleParams:
    """What stands above a panel among several."""
    lines = list(below) if below else alt.Undefined
    return alt.TitleParams(labels.short(name, MOST_LETTERS), subtitle=lines, fontSize=12, subtitleFontSize=11, offset=6)


def by_model(cells: Sequence[Charted]) -> list[tuple[str, list[Charted]]]:
    """The cells of each model, in the order of its first."""
    order = list(dict.fromkeys(cell.record.model_id for cell in cells))
    ordered = sorted(cells, key=lambda cell: order.index(cell.record.model_id))
    return [(model, list(group)) for model, group in groupby(ordered, key=lambda cell: cell.record.model_id)]


def left_out(kind: str, shown: int, there: int) -> str:
    """The note on what a picture has no room for; empty where it has."""
    return f"The first {shown} of {there} {kind} are shown." if shown < there else ""
