"""Where names stand beside the points of a chart so that none covers another, a point or the chart's edge."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Literal

LETTER = 6.1  # pixels that a letter of 11 pixels takes, about
HEIGHT = 12.0
MARK = 5.0  # half of what a point's mark takes
MOST_LETTERS = 22
KEPT_LETTERS = 4  # of what all long names begin with
PIECE = 8.0  # of a stroke, in pixels
STEPS_A_PIECE = 2.0

Align = Literal["left", "center", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a name stands, in pixels from its point: the middle of its height, and the end or middle of its width that
    `align` names.
    """

    dx: float
    dy: float
    align: Align


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What is taken: from left to right and from top to bottom, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: "Box") -> bool:
        """Whether the two share any place."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: "Box") -> bool:
        """Whether the other lies wholly within this one."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


SIDE, ABOVE = MARK + 4, MARK + 9
PLACES = (
    Place(dx=-SIDE, dy=0, align="right"),
    Place(dx=SIDE, dy=0, align="left"),
    Place(dx=-SIDE, dy=ABOVE, align="right"),
    Place(dx=SIDE, dy=-ABOVE, align="left"),
    Place(dx=SIDE, dy=ABOVE, align="left"),
    Place(dx=-SIDE, dy=-ABOVE, align="right"),
    Place(dx=0, dy=ABOVE, align="center"),
    Place(dx=0, dy=-ABOVE, align="center"),
    Place(dx=-SIDE, dy=2 * ABOVE, align="right"),
    Place(dx=SIDE, dy=-2 * ABOVE, align="left"),
)


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


def box(point: tuple[float, float], name: str, place: Place) -> Box:
    """What a name takes at a place beside its point (x, y), y downwards."""
    wide = LETTER * len(name)
    x, y = point[0] + place.dx, point[1] + place.dy
    left = {"left": x, "center": x - wide / 2, "right": x - wide}[place.align]
    return Box(left=left, top=y - HEIGHT / 2, right=left + wide, bottom=y + HEIGHT / 2)


def strokes(ends: Sequence[tuple[float, float]]) -> list[Box]:
    """What the strokes from each point (x, y) to the next take, cut into small pieces."""
    found = []
    for (x, y), (next_x, next_y) in pairwise(ends):
        pieces = max(1, round(max(abs(next_x - x), abs(next_y - y)) / PIECE))
        for piece in range(pieces):
            (a, b), (c, d) = (
                (x + (next_x - x) * share, y + (next_y - y) * share) for share in (piece / pieces, (piece + 1) / pieces)
            )
            found.append(Box(left=min(a, c) - 1, top=min(b, d) - 1, right=max(a, c) + 1, bottom=max(b, d) + 1))
    return found


def lay_out(
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    width: float,
    height: float,
    drawn: Sequence[Box] = (),
) -> list[Place | None]:
    """A place for each point's name that is free of other marks and names; None where none is: that name is left out.
    Of the free places the nearest, unless it meets more of what else is `drawn`: a piece met is as bad as
    `STEPS_A_PIECE` steps down in `PLACES`.
    """
    marks = [Box(left=x - MARK, top=y - MARK, right=x + MARK, bottom=y + MARK) for x, y in points]
    inside = Box(left=0, top=0, right=width, bottom=height)
    names_taken: list[Box] = []
    found: list[Place | None] = []
    for point, name in zip(points, names, strict=True):
        boxes = [box(point, name, place) for place in PLACES]
        free = [
            number
            for number, wanted in enumerate(boxes)
            if inside.holds(wanted) and not any(wanted.covers(other) for other in (*marks, *names_taken))
        ]
        best = min(free, key=lambda number: _badness(number, boxes[number], drawn), default=None)
        found.append(None if best is None else PLACES[best])
        if best is not None:
            names_taken.append(boxes[best])
    return found


def _badness(number: int, wanted: Box, drawn: Sequence[Box]) -> float:
    return number + STEPS_A_PIECE * sum(wanted.covers(piece) for piece in drawn)
