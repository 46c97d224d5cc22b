"""Where names stand beside the points of a chart, so that each is read as its own point's and none covers another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import Any, Literal, TypeAlias

import numpy as np

LETTER = 6.1  # pixels that a letter of 11 pixels takes, about
HEIGHT = 12.0
MARK = 5.0  # half of what a point's mark takes
MOST_LETTERS = 22
KEPT_LETTERS = 4  # of what all long names begin with
PIECE = 8.0  # of a stroke, in pixels
LEADER_PIECES = 16
STEPS_A_PIECE = 4.0
CLEARLY = 1.5  # pixels that another point is at least further from a name than its own point
FURTHER = 20  # steps that a name with a leader line is worse than one beside its point

Align = Literal["left", "center", "right"]
Boxes: TypeAlias = Any  # an array with a row for each: left, top, right, bottom, in pixels
Spot: TypeAlias = tuple[float, float]  # x and y in pixels, y downwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a name stands, in pixels from its point: the middle of its height, and the end or middle of its width that
    `align` names. `led`: a thin line leads from the point to it.
    """

    dx: float
    dy: float
    align: Align
    led: bool = False

    @property
    def end(self) -> Spot:
        """Where a line from the point to the name ends, in pixels from the point."""
        if abs(self.dx) <= MARK:  # above or below
            return 0.0, self.dy - math.copysign(HEIGHT / 2, self.dy)
        return self.dx + (2 if self.align == "right" else -2), self.dy


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A panel at one of the widths that it may have: where its points are, and the strokes that names keep clear of as
    far as there is room (`drawn`) and those that no name may lie on (`barred`).
    """

    points: Sequence[Spot]
    width: float
    height: float
    drawn: Boxes = None
    barred: Boxes = None


SIDE, ABOVE = MARK + 4, MARK + 8
BESIDE = (
    Place(dx=-SIDE, dy=0, align="right"),
    Place(dx=SIDE, dy=0, align="left"),
    Place(dx=-SIDE, dy=ABOVE, align="right"),
    Place(dx=SIDE, dy=-ABOVE, align="left"),
    Place(dx=SIDE, dy=ABOVE, align="left"),
    Place(dx=-SIDE, dy=-ABOVE, align="right"),
    Place(dx=0, dy=ABOVE, align="center"),
    Place(dx=0, dy=-ABOVE, align="center"),
)


NOTHING: Boxes = np.empty((0, 4))


def _around(far: float) -> list[Place]:
    """Places on a circle, with a line that leads there."""
    found = []
    for degrees in (30, 330, 150, 210, 60, 300, 120, 240, 90, 270, 0, 180):
        across, down = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
        align: Align = "center" if abs(across) < 0.1 else "left" if across > 0 else "right"
        found.append(Place(dx=round(far * across, 1), dy=round(far * down, 1), align=align, led=True))
    aligned: tuple[Align, ...] = ("left", "right")
    for down in (far, -far):  # where a point is near an edge
        found += [Place(dx=-MARK if align == "left" else MARK, dy=down, align=align, led=True) for align in aligned]
    return found


FAR = (22, 32, 44, 58)  # pixels that a line to a name is long
TURNS = 16  # places at each length
PLACES = (*BESIDE, *(place for far in FAR for place in _around(far)))


def strokes(ends: Sequence[Spot], pieces: int | None = None) -> Boxes:
    """What the strokes from each point to the next take, cut into small pieces, or into so many."""
    found = []
    for (x, y), (next_x, next_y) in pairwise(ends):
        many = pieces or max(1, round(max(abs(next_x - x), abs(next_y - y)) / PIECE))
        shares = np.linspace(0, 1, many + 1)
        across, down = x + (next_x - x) * shares, y + (next_y - y) * shares
        left, right = np.minimum(across[:-1], across[1:]) - 1, np.maximum(across[:-1], across[1:]) + 1
        top, bottom = np.minimum(down[:-1], down[1:]) - 1, np.maximum(down[:-1], down[1:]) + 1
        found.append(np.stack([left, top, right, bottom], axis=1))
    return np.concatenate([NOTHING, *found])


STEPS = np.array([*range(len(BESIDE)), *(FURTHER + far / 4 + turn / TURNS for far in FAR for turn in range(TURNS))])
LED = np.array([place.led for place in PLACES])
LEADERS = np.stack([strokes([(0.0, 0.0), place.end], LEADER_PIECES) for place in PLACES])  # from a point at 0, 0
CLEAR_OF_MARK = np.hypot(*LEADERS[..., :2].transpose(2, 0, 1)) > 2 * MARK + 2  # pieces of them


def short(name: str, letters: int = MOST_LETTERS) -> str:
    """A name as it stands in a chart: the middle of a long one is left out."""
    if len(name) <= letters:
        return name
    half = (letters - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def short_of_all(names: Sequence[str]) -> list[str]:
    """Names as they stand in a chart: long ones without what all long ones begin with, as far as that leaves them
    different.
    """
    long = [name for name in names if len(name) > MOST_LETTERS]
    alike = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*long, strict=False)))
    cut = max(0, alike - KEPT_LETTERS) if len(set(long)) > 1 else 0
    return [short(f"…{name[cut:]}" if cut and name in long else name) for name in names]


def boxes(point: Spot, name: str) -> Boxes:
    """What a name takes at each of the `PLACES` beside its point."""
    wide = LETTER * len(name)
    shift = {"left": 0.0, "center": wide / 2, "right": wide}
    lefts = [point[0] + place.dx - shift[place.align] for place in PLACES]
    tops = [point[1] + place.dy - HEIGHT / 2 for place in PLACES]
    return np.array([(left, top, left + wide, top + HEIGHT) for left, top in zip(lefts, tops, strict=True)])


def covered(some: Boxes, others: Boxes) -> Boxes:
    """Which boxes (rows) share any place with which others (columns)."""
    mine, theirs = some[:, None, :], others[None, :, :]
    across = (mine[..., 0] < theirs[..., 2]) & (theirs[..., 0] < mine[..., 2])
    found: Boxes = across & (mine[..., 1] < theirs[..., 3]) & (theirs[..., 1] < mine[..., 3])
    return found


def distances(some: Boxes, points: Sequence[Spot]) -> Boxes:
    """How far each box (rows) is from each point (columns); 0 within."""
    x, y = np.array(points, dtype=float).reshape(-1, 2).T
    across = np.maximum(0, np.maximum(some[:, :1] - x, x - some[:, 2:3]))
    down = np.maximum(0, np.maximum(some[:, 1:2] - y, y - some[:, 3:4]))
    return np.hypot(across, down)


def lay_out(views: Sequence[View], names: Sequence[str]) -> list[Place | None]:
    """A place for each point's name that holds in all views of a panel; None where there is none: left out.

    A name covers no other, no mark and nothing barred, and lies within the panel. Without a line that leads to it it is
    nearer to its own point than to any other; such a line meets no other mark and no name and runs along no stroke. Of
    the places that remain the nearest, unless it meets more of what else is drawn: a piece met is as bad as
    `STEPS_A_PIECE` steps down in `PLACES`, and half as bad where the line to the name meets it. Names with the fewest
    places come first.
    """
    costs = [STEPS + sum(_cost(view, number, name) for view in views) for number, name in enumerate(names)]
    taken = [_Taken() for _ in views]
    found: list[Place | None] = [None] * len(names)
    for number in sorted(range(len(names)), key=lambda each: np.isfinite(costs[each]).sum()):
        cost = costs[number].copy()
        for view, others in zip(views, taken, strict=True):
            cost[others.met_by(view.points[number], names[number])] = np.inf
        best = int(np.argmin(cost))
        if np.isfinite(cost[best]):
            found[number] = PLACES[best]
            for view, others in zip(views, taken, strict=True):
                others.add(view.points[number], names[number], best)
    return found


def _cost(view: View, number: int, name: str) -> Boxes:
    """How bad each place is for a point's name, whatever becomes of other names; infinite where it cannot be."""
    own, point = boxes(view.points[number], name), view.points[number]
    others = [each for place, each in enumerate(view.points) if place != number]
    marks = np.array([(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in view.points])
    outside = (own[:, :2] < 0).any(axis=1) | (own[:, 2] > view.width) | (own[:, 3] > view.height)
    barred = NOTHING if view.barred is None else view.barred
    bad = outside | covered(own, np.concatenate([marks, barred])).any(axis=1)
    if others:
        nearest = distances(own, others).min(axis=1)
        bad |= ~LED & (nearest < distances(own, [point])[:, 0] + CLEARLY)
        apart = [place for place, each in enumerate(view.points) if math.dist(each, point) > 2 * MARK]
        bad |= _led_through(point, marks[apart])
    drawn = NOTHING if view.drawn is None else view.drawn
    along = LED * (_leaders_met(point, drawn) & CLEAR_OF_MARK).sum(axis=1)
    bad |= along > LEADER_PIECES / 2  # such a line is not seen
    return np.where(bad, np.inf, STEPS_A_PIECE * (covered(own, drawn).sum(axis=1) + along / 2))


def _leaders_met(point: Spot, taken: Boxes) -> Boxes:
    """Of the line to each place (rows), which pieces meet any of what is taken."""
    lines = (LEADERS + np.array([*point, *point])).reshape(-1, 4)
    return covered(lines, taken).any(axis=1).reshape(len(PLACES), -1)


def _led_through(point: Spot, taken: Boxes, pieces: Boxes = True) -> Boxes:
    """Which places have a line to them that meets any of what is taken, with any of its `pieces`."""
    return LED & (_leaders_met(point, taken) & pieces).any(axis=1)


@dataclass(slots=True, kw_only=True)
class _Taken:
    """What names that have their places, and the lines that lead there, take in a view."""

    names: Boxes = field(default_factory=lambda: NOTHING)
    lines: Boxes = field(default_factory=lambda: NOTHING)

    def met_by(self, point: Spot, name: str) -> Boxes:
        """Which places of a name meet any of it. Lines of points that cover each other may begin together."""
        itself = covered(boxes(point, name), np.concatenate([self.names, self.lines])).any(axis=1)
        return itself | _led_through(point, self.names) | _led_through(point, self.lines, CLEAR_OF_MARK)

    def add(self, point: Spot, name: str, best: int) -> None:
        """Take a name's place."""
        self.names = np.concatenate([self.names, boxes(point, name)[best : best + 1]])
        if PLACES[best].led:
            self.lines = np.concatenate([self.lines, LEADERS[best] + np.array([*point, *point])])
