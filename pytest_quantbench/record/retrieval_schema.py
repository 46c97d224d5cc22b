"""What a record says of retrieval: facts in filler, and chains of them, asked for at the end of the context."""

from dataclasses import dataclass
from typing import Literal

from pytest_quantbench.judge.verdict import Outcome
from pytest_quantbench.record.accuracy_schema import TaskAccuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalStratum:
    """The questions whose facts lie more than `above` and at most `up_to` tokens before them, with so many `hops` to
    the answer; `accuracy` as T3 has it of a task. `reference`: whether the model in BF16 can do it at all; what it
    cannot do is not judged. Both it and the `outcome` by the limit are null in the reference's own record.
    """

    name: str
    above: int
    up_to: int
    hops: int
    mean_depth_tokens: float  # of the first fact that is asked for
    accuracy: TaskAccuracy
    reference: Literal["can", "cannot", "open"] | None = None
    outcome: Outcome | None = None  # by the limit; informational where there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Every stratum, shallow ones first; the outcomes are of one family, and of all questions that were asked."""

    strata: tuple[RetrievalStratum, ...]
    questions: int  # of each stratum: as many contexts, with a question of each stratum
    context_tokens: int  # of the longest question with its context
    time_sec: float | None = None
