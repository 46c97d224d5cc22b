"""An axis: which values it spans, where they lie on it and which are written beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import altair as alt

Kind = Literal["linear", "log", "symlog"]
ROOM = 0.06  # of an axis, left free at both ends
MOST_TICKS = 7
MOST = 1e300  # what an axis ends at: a diverged model has intervals up to there
FEW_DECADES = 1.3
DECADES = 4  # above so many, only powers of ten are written


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """`low` to `high` in the figure's own unit, which is part of the title. A symmetrical logarithm (`symlog`) is
    linear within ± `constant` and reaches below 0.
    """

    title: str
    kind: Kind
    low: float
    high: float
    constant: float = 1.0

    def at(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one."""
        low, high = self._bent(self.low), self._bent(self.high)
        return (self._bent(value) - low) / (high - low)

    def value(self, place: float) -> float:
        """What lies at a place from 0 to 1: the inverse of `at`."""
        low, high = self._bent(self.low), self._bent(self.high)
        bent_value = low + place * (high - low)
        if self.kind == "log":
            return math.exp(bent_value)
        if self.kind == "symlog":
            return math.copysign(self.constant * math.expm1(abs(bent_value)), bent_value)
        return bent_value

    def within(self, value: float) -> float:
        """The value, or the end of the axis that it lies beyond."""
        return min(max(value, self.low), self.high)

    def _bent(self, value: float) -> float:
        if self.kind == "log":
            return math.log(value)
        if self.kind == "symlog":
            return math.copysign(math.log1p(abs(value) / self.constant), value)
        return value

    @property
    def scale(self) -> alt.Scale:
        """For the specification."""
        ends = [self.low, self.high]
        if self.kind == "symlog":
            return alt.Scale(type="symlog", constant=self.constant, domain=ends, nice=False)
        if self.kind == "log":
            return alt.Scale(type="log", domain=ends, nice=False)
        return alt.Scale(type="linear", domain=ends, nice=False, zero=False)

    @property
    def axis(self) -> alt.Axis:
        """For the specification: a logarithm is written at 1, 3, 10 and so on, over many decades at powers of ten."""
        if self.kind == "linear" or len(self.ticks) < 2:
            return alt.Axis(title=self.title, tickCount=5)
        return alt.Axis(title=self.title, values=self.ticks, labelExpr="'' + datum.value", grid=True)

    @property
    def ticks(self) -> list[float]:
        """The values that are written beside a logarithmic axis."""
        if self.kind == "log":
            return _decades(self.low, self.high)
        sizes = _decades(self.constant * (1 - 1e-9), max(self.high, -self.low))
        both = [-size for size in reversed(sizes)] + [0.0] + sizes
        return [value for value in both if self.low <= value <= self.high]


def _decades(low: float, high: float) -> list[float]:
    """1, 3, 10, … between two positive values; only powers of ten over many decades; 1, 2, 5, … within few."""
    span = math.log10(high / low)
    steps = (1,) if span > DECADES else (1, 3) if span > FEW_DECADES else (1, 2, 5)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    every = max(1, round(span / MOST_TICKS)) if len(steps) == 1 else 1
    values = [float(f"{step}e{power}") for power in powers if power % every == 0 for step in steps]
    return [value for value in values if low <= value <= high]


def linear(title: str, values: Sequence[float]) -> Axis:
    """From the least value to the largest, with room at both ends."""
    low, high = min(values), max(values)
    room = ROOM * (high - low) or abs(high) * ROOM or 1.0
    return Axis(title=title, kind="linear", low=low - room, high=high + room)


def logarithmic(title: str, values: Sequence[float]) -> Axis:
    """Of positive values; what is not is left to `within`, which puts it at the low end."""
    positive = [value for value in values if value > 0] or [1.0]
    room = max((max(positive) / min(positive)) ** ROOM, 1.1)
    return Axis(title=title, kind="log", low=min(positive) / room, high=max(positive) * room)


def bent(title: str, values: Sequence[float], constant: float) -> Axis:
    """Linear where all values are small or lie within two decades, else a symmetrical logarithm that tells apart what
    is about `constant`.
    """
    sizes = [abs(value) for value in values if value]
    if not sizes or max(sizes) < 10 * constant:
        return linear(title, [0.0, *values])
    flat = Axis(title=title, kind="symlog", low=min(0.0, *values), high=max(0.0, *values), constant=constant)
    stretch = 10 ** (ROOM * math.log10(1 + max(sizes) / constant))
    low = flat.low * stretch if flat.low < 0 else -constant / 4
    high = flat.high * stretch if flat.high > 0 else constant / 4
    low, high = max(low, -MOST), min(high, MOST)
    return Axis(title=title, kind="symlog", low=low, high=high, constant=constant)
