"""A panel with a point for every cell, intervals as bars through it, its recipe's name beside it, and limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from typing import Any, Literal

import altair as alt
import numpy as np

from pytest_quantbench.report.charts import labels, naming
from pytest_quantbench.report.charts.scales import Axis
from pytest_quantbench.report.charts.sheet import Drawn, Sheet, heading, panel
from pytest_quantbench.stats.estimates import Interval

LEGEND_LIMIT = 220  # pixels of a name, as the theme has it
LEGEND_SYMBOL = 34  # pixels of a symbol and what is left free
LETTER = 6.3
SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
SHAPES += (
    "M-0.8,-0.8 H0.8 L-0.8,0.8 H0.8 Z",  # an hourglass
    "M0,-1 L0.25,-0.3 L1,-0.3 L0.4,0.15 L0.6,0.9 L0,0.45 L-0.6,0.9 L-0.4,0.15 L-1,-0.3 L-0.25,-0.3 Z",  # a star
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A cell in a panel: both figures, with intervals as wide as 0 where they are exact; the `group` that its colour
    and shape are of; and what is told of it where one points at it, title by title.
    """

    name: str
    x: Interval
    y: Interval
    group: str
    tells: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    line: str = ""  # which line goes through it; none through ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What the cells of a level are judged by: a stroke at `value` of one axis, as long as these cells reach on the
    other.
    """

    axis: Literal["x", "y"]
    value: float
    begin: float
    end: float
    tells: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups of points, each with a shape and a colour: all that there are in the picture, also in other panels."""

    title: str
    names: Sequence[str]
    width: int  # pixels that the legend may take
    colours: Literal["category", "ordinal", "ramp"] = "category"  # which of the theme's (see theme)

    def colour(self) -> alt.Color:
        """For the specification; colours by the theme."""
        longest = min(LEGEND_LIMIT, LETTER * max(map(len, self.names)))
        columns = max(1, int(self.width / (longest + LEGEND_SYMBOL)))
        legend = alt.Legend(title=self.title or None, orient="bottom", columns=columns, symbolOpacity=1)
        return alt.Color("group:N", legend=legend, scale=alt.Scale(domain=list(self.names), range=self.colours))

    def shape(self) -> alt.Shape:
        """For the specification."""
        many = len(SHAPES)  # as many as colours: the next so many have the same colours with other shapes
        shapes = [SHAPES[(place + place // many) % many] for place in range(len(self.names))]
        return alt.Shape("group:N", title=self.title or None, scale=alt.Scale(domain=list(self.names), range=shapes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What is drawn on two axes."""

    points: Sequence[Point]
    x: Axis
    y: Axis
    groups: Groups
    limits: Sequence[Limit] = ()
    step: bool = False  # lines go along the axes, as a front's do
    title: str = ""
    named: bool = True  # with each point's name beside it

    def draw(self, on: Sheet, panels: int, height: int) -> Drawn:
        """The panel, one of so many on a sheet."""
        x = alt.X("x:Q", scale=self.x.scale, axis=self.x.axis)
        y = alt.Y("y:Q", scale=self.y.scale, axis=self.y.axis)
        width = on.panel_width(panels)
        layers = [
            *self._limits(on, x, y),
            *self._lines(on, x, y),
            *self._points(on, x, y, width, height),
        ]
        for point in self.points:
            on.tell(point.model, point.name, point.tells)
        return panel(layers, width, height, heading(self.title) if self.title else None)

    def _points(self, on: Sheet, x: alt.X, y: alt.Y, width: int | str, height: int) -> list[alt.Chart]:
        layouts = naming.layouts(width)
        rows = self._rows(layouts, height)
        if self.named:
            unnamed = [row for row in rows if not {"label", "wide_label"} & row.keys()]
            on.unnamed.extend(f"{self.title} {row['name']}".strip() for row in unnamed)
        told = dict.fromkeys(title for point in self.points for title in point.tells)
        titles = {"model": "model", "name": "cell", **{title: title for title in told}}
        tooltip = [alt.Tooltip(f"{field}:N", title=title) for field, title in titles.items()]
        data = on.rows(rows)
        colour = self.groups.colour()
        bar = alt.Chart(data).mark_rule(strokeWidth=1.2, opacity=0.7)
        up: dict[str, Any] = {"scale": self.y.scale, "title": self.y.title}
        across: dict[str, Any] = {"scale": self.x.scale, "title": self.x.title}
        return [
            bar.encode(x=x, y=alt.Y("y_low:Q", **up), y2=alt.Y2("y_high"), color=colour),
            bar.encode(x=alt.X("x_low:Q", **across), x2=alt.X2("x_high"), y=y, color=colour),
            alt.Chart(data)
            .mark_point(filled=True, size=60, opacity=0.85)
            .encode(x=x, y=y, color=colour, shape=self.groups.shape(), tooltip=tooltip),
            *naming.layers(data, x, y, rows, len(layouts) > 1),
        ]

    def _rows(self, layouts: Sequence[Sequence[float]], height: int) -> list[dict[str, Any]]:
        views = [[self._view(width, height) for width in widths] for widths in layouts] if self.named else []
        rows: list[dict[str, Any]] = []
        for point, own in zip(self.points, naming.laid_out([point.name for point in self.points], views), strict=True):
            row: dict[str, Any] = {"model": point.model, "name": point.name, "group": point.group}
            row |= {"x": self.x.within(point.x.estimate), "y": self.y.within(point.y.estimate)}
            row |= {"x_low": self.x.within(point.x.low), "x_high": self.x.within(point.x.high)}
            row |= {"y_low": self.y.within(point.y.low), "y_high": self.y.within(point.y.high)}
            rows.append(row | own.fields() | dict(point.tells))
        return rows

    def _view(self, width: float, height: int) -> labels.View:
        """What names keep clear of: bars and lines as far as there is room, limits always."""

        def spot(x: float, y: float) -> tuple[float, float]:
            return self.x.at(self.x.within(x)) * width, (1 - self.y.at(self.y.within(y))) * height

        drawn, barred = [labels.NOTHING], [labels.NOTHING]
        for point in self.points:
            x, y = point.x.estimate, point.y.estimate
            drawn.append(labels.strokes([spot(point.x.low, y), spot(point.x.high, y)]))
            drawn.append(labels.strokes([spot(x, point.y.low), spot(x, point.y.high)]))
        for line in dict.fromkeys(point.line for point in self.points if point.line):
            ends = [(point.x.estimate, point.y.estimate) for point in self.points if point.line == line]
            corners = [(next_[0], this[1]) for this, next_ in pairwise(ends)] if self.step else []
            path = [end for pair in zip_longest(ends, corners) for end in pair if end is not None]
            drawn.append(labels.strokes([spot(*end) for end in path]))
        for limit in self.limits:
            ends = [(limit.value, limit.begin), (limit.value, limit.end)]
            barred.append(labels.strokes([spot(*(end if limit.axis == "x" else end[::-1])) for end in ends]))
        spots = [spot(point.x.estimate, point.y.estimate) for point in self.points]
        return labels.View(
            points=spots, width=width, height=height, drawn=np.concatenate(drawn), barred=np.concatenate(barred)
        )

    def _lines(self, on: Sheet, x: alt.X, y: alt.Y) -> list[alt.Chart]:
        rows = [
            {"x": self.x.within(p.x.estimate), "y": self.y.within(p.y.estimate), "line": p.line, "group": p.group}
            for p in self.points
            if p.line
        ]
        if not rows:
            return []
        line = alt.Chart(on.rows(rows)).mark_line(
            strokeWidth=1.2, opacity=0.6, interpolate="step-after" if self.step else "linear"
        )
        return [line.encode(x=x, y=y, detail=alt.Detail("line:N"), color=self.groups.colour())]

    def _limits(self, on: Sheet, x: alt.X, y: alt.Y) -> list[alt.Chart]:
        layers = []
        for axis in ("x", "y"):
            rows = [
                {"at": limit.value, "begin": limit.begin, "end": limit.end, "limit": limit.tells}
                for limit in self.limits
                if limit.axis == axis
            ]
            if rows:
                mark = alt.Chart(on.rows(rows)).mark_rule(strokeDash=[4, 3], strokeWidth=1.5)
                layers.append(mark.encode(**self._along(axis), tooltip=alt.Tooltip("limit:N")))
        return layers

    def _along(self, axis: str) -> dict[str, Any]:
        """The channels of a stroke across an axis."""
        if axis == "y":
            at = alt.Y("at:Q", scale=self.y.scale, title=self.y.title)
            return {"y": at, "x": alt.X("begin:Q", scale=self.x.scale, title=self.x.title), "x2": alt.X2("end")}
        at_x = alt.X("at:Q", scale=self.x.scale, title=self.x.title)
        return {"x": at_x, "y": alt.Y("begin:Q", scale=self.y.scale, title=self.y.title), "y2": alt.Y2("end")}
