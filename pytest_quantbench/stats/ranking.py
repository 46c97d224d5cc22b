"""Several series on the same items: which differ from which, and groups of those that cannot be told apart.

All pairs are compared at once: of series that are equal in truth, at most α have any pair that is said to differ (Holm
1979). Groups are shown as letters, which two series share where nothing was said to differ between them: the
insert-and-absorb algorithm of Piepho 2004 ("An algorithm for a letter-based representation of all-pairwise
comparisons", Journal of Computational and Graphical Statistics 13).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.stats.estimates import ALPHA, Exact, Student
from pytest_quantbench.stats.series import holm, mean
from pytest_quantbench.stats.window_sampling import Drawn

Names = tuple[str, str]


def differing(
    losses: Mapping[str, NDArray[np.floating]], drawn: Drawn | None, floors: Mapping[str, float], alpha: float = ALPHA
) -> dict[Names, bool]:
    """For every pair of (n,) series on the same items whether their means differ, either way.

    `floors`: how far the mean of each series may move though nothing was changed. Both of a pair may move, so that they
    differ where they do by more than the sum of their two floors, whatever those of the others are.
    """
    names = list(losses)
    found = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    adjusted = holm([_two_sided(losses[a], losses[b], drawn, floors[a] + floors[b]) for a, b in found])
    return {pair: p < alpha for pair, p in zip(found, adjusted, strict=True)}


def _two_sided(first: NDArray[np.floating], second: NDArray[np.floating], drawn: Drawn | None, floor: float) -> float:
    """Twice the smaller p of "above the floor" and "below it"; 1 where nothing is known of the error."""
    estimate: Student | Exact | None = mean(second.astype(np.float64) - first, drawn)
    if estimate is None or abs(estimate.value) <= floor:
        return 1.0
    return min(1.0, 2 * (estimate.p_above(floor) if estimate.value > 0 else estimate.p_below(-floor)))


def letters(names: Sequence[str], differ: Mapping[Names, bool]) -> dict[str, str]:
    """A string of letters for every name: two share one exactly where they do not differ. `names` in the order in which
    letters are given out.
    """
    groups = [set(names)]
    for (first, second), do_differ in differ.items():
        if do_differ:
            groups = _absorbed([part for group in groups for part in _parted(group, first, second)])
    order = {name: place for place, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(order[name] for name in group))
    return {name: "".join(_letter(place) for place, group in enumerate(groups) if name in group) for name in names}


def _parted(group: set[str], first: str, second: str) -> list[set[str]]:
    """A group without the one and without the other, where it has both."""
    return [group - {first}, group - {second}] if {first, second} <= group else [group]


def _absorbed(groups: Sequence[set[str]]) -> list[set[str]]:
    """Without those that another holds."""
    kept: list[set[str]] = []
    for group in sorted(groups, key=len, reverse=True):
        if not any(group <= other for other in kept):
            kept.append(group)
    return kept


def _letter(place: int) -> str:
    """a … z, then A … Z, then numbers in brackets."""
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return alphabet[place] if place < len(alphabet) else f"({place + 1})"
