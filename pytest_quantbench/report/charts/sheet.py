"""A chart's title, sentence, notes and panels → its specification, for a picture or for a page."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
Drawn: TypeAlias = dict[str, Any]  # a panel's part of a specification


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a chart's panels are put on. `width` in pixels of all; None: of what a page has, which has its own headings
    and gets the notes beside the specification, in `usermeta`, with the table that says the same.
    """

    title: str
    tells: str
    width: int | None
    datasets: dict[str, Sequence[Row]] = field(default_factory=dict, repr=False, compare=False)
    unnamed: list[str] = field(default_factory=list, repr=False, compare=False)
    told: list[dict[str, str]] = field(default_factory=list, repr=False, compare=False)

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

    def tell(self, model: str, recipe: str, figures: Mapping[str, str]) -> None:
        """A row of the table that says the same as the chart."""
        self.told.append({"model": model, "recipe": recipe, **figures})

    @property
    def legend_width(self) -> int:
        """Pixels that a legend may take."""
        return (self.width or 340) - MARGINS - AXIS

    def finish(self, panels: Sequence[Drawn], notes: Sequence[str], columns: int = 2) -> dict[str, Any]:
        """The specification as JSON values. Of several panels its `columns` stand side by side. Tests see to it
        that the whole is one of Vega-Lite's.
        """
        said = [note for note in (*notes, self._without_names()) if note]
        whole: dict[str, Any] = {"$schema": alt.SCHEMA_URL, "description": f"{self.title}. {self.tells}"}
        if len(panels) > 1:
            whole |= {"concat": list(panels), "columns": 1 if self.width is None else columns, "spacing": 20}
        else:
            own = panels[0].get("title", {})  # what a panel by itself is of stands with the notes
            said += [", ".join([own["text"], *own.get("subtitle", [])])] if own else []
            whole |= {name: part for name, part in panels[0].items() if name != "title"}
        if self.width is not None:
            whole["title"] = {"text": self.title, "subtitle": self._wrapped([self.tells, *said]), "offset": 14}
        return whole | {"datasets": dict(self.datasets), "usermeta": {"notes": said, "table": self._table()}}

    def _without_names(self) -> str:
        """The note on points that there was no room to name; empty where all are named."""
        return f"No room for the names of {', '.join(self.unnamed)}." if self.unnamed else ""

    def _table(self) -> dict[str, Any]:
        """What was told, as columns' titles and rows of texts; empty where a row has nothing."""
        columns = list(dict.fromkeys(title for row in self.told for title in row))
        return {"columns": columns, "rows": [[row.get(title, "") for title in columns] for row in self.told]}

    def _wrapped(self, texts: Sequence[str]) -> list[str]:
        assert self.width is not None
        letters = int((self.width - MARGINS) / LETTER)
        return [line for text in texts for line in textwrap.wrap(text, letters)]


def panel(
    layers: Sequence[alt.Chart], width: int | Literal["container"], height: int, title: alt.TitleParams | None = None
) -> Drawn:
    """Layers over each other. They are put together here: altair would copy and check each of them again, twice."""
    parts = [layer.to_dict(validate=False) for layer in layers]
    for part in parts:
        del part["$schema"], part["config"]  # sizes that altair gives to charts without any
    above = {} if title is None else {"title": title.to_dict()}
    return {"layer": parts, "width": width, "height": height} | above


def heading(name: str, below: Sequence[str] = ()) -> alt.TitleParams:
    """What stands above a panel among several."""
    lines = list(below) if below else alt.Undefined
    return alt.TitleParams(labels.short(name, MOST_LETTERS), subtitle=lines, fontSize=12, subtitleFontSize=11, offset=6)


def by_model(cells: Sequence[Charted]) -> list[tuple[str, list[Charted]]]:
    """The cells of each model, in the order of its first."""
    found: dict[str, list[Charted]] = {}
    for cell in cells:
        found.setdefault(cell.record.model_id, []).append(cell)
    return list(found.items())


def left_out(kind: str, shown: int, there: int) -> str:
    """The note on what a picture has no room for; empty where it has."""
    return f"The first {shown} of {there} {kind} are shown." if shown < there else ""
