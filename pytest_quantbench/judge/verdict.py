"""What a criterion says of a cell: an estimate with its interval, the looks that led to it, the outcome."""

from dataclasses import dataclass
from typing import Literal

from pytest_quantbench.judge.change import Change

Outcome = Literal["pass", "fail", "undecided", "anomalous", "informational"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at growing data: the error probability that its interval had on each side, and what it said."""

    items: int
    fraction: float  # of the planned information
    alpha: float
    estimate: float | None
    low: float | None  # null: so early that nothing could be said on this side
    high: float | None
    outcome: Outcome
    last: bool  # the plan, the data or the time ended here: it spent what was left of the error probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one criterion says of one cell, in the metric's own unit, and the sentence that explains it.

    `p_good` is the one-sided p of "on the good side of the limit", `p_bad` of "on the bad side", and `p_better`, of
    candidates, of "better than the reference by more than the noise floor", all adjusted for the number of looks;
    `detectable` the distance from the limit that these items tell with a power of 80 %. `value` and `reference_value`
    are what was compared (perplexities, accuracies as fractions, mean tokens per second), of the `items` of the look
    that decided, as the interval is. `baseline`: what became of the figures since a stored record of the cell, where
    the run was given one; whatever the outcome by the limit is.
    """

    metric: str
    outcome: Outcome
    limit: float | None
    estimate: float | None
    low: float | None
    high: float | None
    sentence: str
    confidence: float | None = None  # of the interval, two-sided
    needed: str = ""  # undecided: what would settle it
    items: int | None = None  # tokens, questions or runs
    p_good: float | None = None
    p_bad: float | None = None
    p_better: float | None = None
    detectable: float | None = None
    looks: tuple[Look, ...] = ()
    of: str = ""  # the corpus or the task
    given: bool = False  # the limit is a test's own, and not the cell's criterion
    value: float | None = None
    reference_value: float | None = None
    not_judged: str = ""  # why there is a limit and no verdict by it
    baseline: tuple[Change, ...] = ()

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What is worse than the baseline, beyond the noise."""
        return tuple(change for change in self.baseline if change.word == "regression")

    @property
    def criterion(self) -> tuple[str, str, float | None]:
        """What tells it from a record's other verdicts: the metric, what it is of, and the limit that a test gave (None
        for the cell's own criterion, which is one whatever its limit).
        """
        return self.metric, self.of, self.limit if self.given else None
