"""What was measured, by depth: how many tokens the model could look back on where a figure was taken.

A cache that is held in few bits does its damage there: the more tokens are read from it, the more of what a model sees
is rounded. Strata end at 512 tokens and at every power of two behind it.

Where windows overlap, only tokens near a text's beginning are scored with few tokens in front of them, and whether one
of these windows is drawn is chance. A stratum that has so few tokens cannot be judged by drawing more.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.stats.window_sampling import Drawn

FIRST = 512  # tokens: where the first stratum ends
KILO = 1024
STRAY = 0.25  # of the tokens that a stratum has in whole windows: with fewer it is a stray


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """The items with more than `above` and up to `up_to` tokens in front of them: their places in the series. `stray`:
    they are far fewer than windows that are scored whole would have there.
    """

    above: int
    up_to: int
    places: NDArray[np.int64]
    stray: bool = False

    @property
    def name(self) -> str:
        """`0–512`, `4k–8k`."""
        return named(self.above, self.up_to)

    def drawn(self, whole: Drawn | None) -> Drawn | None:
        """The windows of these items alone: as many as have any, each with those that it has. None: of none."""
        if whole is None:
            return None
        ends = np.cumsum(whole.counts)
        counts = np.diff(np.searchsorted(self.places, ends, side="left"), prepend=0)
        there = counts > 0
        return Drawn(
            population=int(there.sum()) if whole.whole else whole.population,
            tokens=int(counts.max()),
            begins=whole.begins[there],
            counts=counts[there],
        )


def named(above: int, up_to: int) -> str:
    """A stratum in a table: `0–512`, `4k–8k`."""
    return f"{_short(above)}–{_short(up_to)}"


def _short(tokens: int) -> str:
    return f"{tokens // KILO}k" if tokens >= KILO and tokens % KILO == 0 else str(tokens)


def ends_for(depth: int) -> list[int]:
    """Where strata end, up to the first that holds so deep a token."""
    ends = [FIRST]
    while ends[-1] < depth:
        ends.append(2 * ends[-1])
    return ends


def strata(depths: NDArray[np.integer]) -> Iterator[Stratum]:
    """Of a series whose items have so many tokens in front of them: (items,) → those strata that have any."""
    above, deepest = 0, int(depths.max(initial=0))
    for end in ends_for(deepest):
        places = np.flatnonzero((depths > above) & (depths <= end))
        if len(places):
            whole = len(depths) * (min(end, deepest) - above) / deepest
            yield Stratum(above=above, up_to=end, places=places, stray=len(places) < STRAY * whole)
        above = end
