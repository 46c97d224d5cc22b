"""What a check is: how many samples there are and may be, how to get more, and one look at them."""

from typing import Protocol, TypeVar

from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.judge.verdict import Verdict

S = TypeVar("S")


class Check(Protocol[S]):
    """How the samples of one measure are judged, where this engine took them."""

    engine: Engine

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def part(self, samples: S, of: str | None) -> S:
        """The samples of one text or task, where there are several; None: of the first."""
        return samples

    def extent(self, samples: S, settings: Settings) -> tuple[int, int]:
        """How many items the first look has, and how many the last may have."""

    def whole(self, samples: S) -> int | None:
        """How many items are all that there is to know, where samples are drawn from so many; None: of none."""
        return None

    def count(self, samples: S) -> int:
        """How many items there are."""

    def first(self, samples: S, items: int) -> S:
        """The samples of the first so many: there may be more, for another target or another limit."""

    def look(self, samples: S, reference: S, limit: float | None, alpha: float, floor: float | None) -> Verdict:
        """The verdict on the same items of both, with what it is `of`, and its `value` and `reference_value`.
        `floor`: of a candidate, what noise alone changes.
        """

    def last(self, verdict: Verdict, reference: S, limit: float | None) -> Verdict:
        """The verdict of the last look, where something else than its numbers may keep it from being one."""
        return verdict

    def hopeless(self, samples: S, reference: S, limit: float | None) -> bool:
        """Whether a verdict that is undecided on these items stays so, however many are added."""
        return False

    def is_whole_pair(self, samples: S) -> bool:
        """Whether the reference's items are among these samples, so that none of its own are added."""
        return False
