"""T1, T2 and T3 as verdicts see them: how many samples there are and may be, how to get more, and one look at them.

A check holds a cell and its reference, and sees to it that both have the same items.
"""

from collections.abc import Mapping
from typing import Protocol

from pytest_quantbench import judge, looks
from pytest_quantbench.catalog import PROMPTS
from pytest_quantbench.machine import backend
from pytest_quantbench.measured import Measured
from pytest_quantbench.samples import TaskSamples
from pytest_quantbench.settings import Settings
from pytest_quantbench.verdict import Verdict


class Check(Protocol):
    """One check of one cell."""

    def __init__(self, cell: Measured, reference: Measured) -> None: ...

    def extent(self, settings: Settings) -> tuple[int, int]:
        """How many items the first look has, and how many the last may have."""

    def grow(self, items: int) -> int:
        """More samples of the cell and of the reference; returns how many both have."""

    def look(self, limit: float | None, alpha: float) -> Verdict:
        """The verdict on the samples that there are."""


class PerplexityCheck:
    """T2: items are tokens of the corpus."""

    def __init__(self, cell: Measured, reference: Measured) -> None:
        self._cell, self._reference = cell, reference

    def extent(self, settings: Settings) -> tuple[int, int]:
        """From what was scored to `most_tokens` or the end of the corpus."""
        samples = self._cell.perplexity_samples
        return samples.text_tokens, min(settings.most_tokens or samples.available_tokens, samples.available_tokens)

    def grow(self, items: int) -> int:
        """Of both, as far as the corpus has them."""
        return min(each.grow_tokens(items) for each in (self._reference, self._cell))

    def look(self, limit: float | None, alpha: float) -> Verdict:
        """The reference may have gone further for another cell: its first tokens are compared."""
        scored = self._cell.perplexity_samples
        paired = self._reference.perplexity_samples.first(len(scored.nll_nats))
        return judge.judge_perplexity(scored, paired, limit, alpha)


class AccuracyCheck:
    """T3: items are questions of the first task, which is the one that is judged."""

    def __init__(self, cell: Measured, reference: Measured) -> None:
        self._cell, self._reference = cell, reference

    def extent(self, settings: Settings) -> tuple[int, int]:
        """From `--limit` to all questions of the task."""
        name, answered = self._judged
        return len(answered.ids), self._cell.accuracy_samples.available[name]

    def grow(self, items: int) -> int:
        """Of both, as far as the task has them."""
        return min(each.grow_questions(items) for each in (self._reference, self._cell))

    def look(self, limit: float | None, alpha: float) -> Verdict:
        """The reference may have answered more questions for another cell: its first are compared."""
        name, answered = self._judged
        before = self._reference.accuracy_samples.tasks[name].first(len(answered.ids))
        return judge.judge_accuracy(name, answered, before, limit, alpha)

    @property
    def _judged(self) -> tuple[str, TaskSamples]:
        return next(iter(self._cell.accuracy_samples.tasks.items()))


class ThroughputCheck:
    """T1: items are runs over all prompts."""

    def __init__(self, cell: Measured, reference: Measured) -> None:
        self._cell, self._reference = cell, reference

    def extent(self, settings: Settings) -> tuple[int, int]:
        """From `--runs` to `most_runs` of every prompt; on a CPU nothing is judged and nothing added."""
        runs = len(self._cell.throughput_samples.runs)
        return runs, runs if backend() == "cpu" else settings.most_runs * len(PROMPTS)

    def grow(self, items: int) -> int:
        """Of both, unless the reference's runs are interleaved with the cell's own."""
        interleaved = self._cell.throughput_samples.reference_runs
        return min(each.grow_runs(items) for each in ((self._cell,) if interleaved else (self._reference, self._cell)))

    def look(self, limit: float | None, alpha: float) -> Verdict:
        """Informational on a CPU."""
        mine, other = self._cell.throughput_samples, self._reference.throughput_samples
        return judge.judge_throughput(mine, other, limit, backend() != "cpu", alpha)


CHECKS: Mapping[str, type[Check]] = {
    "perplexity": PerplexityCheck,
    "accuracy": AccuracyCheck,
    "throughput": ThroughputCheck,
}


def decide(
    name: str,
    cell: Measured,
    reference: Measured,
    limit: float | None,
    settings: Settings,
    deadline_seconds: float | None = None,
) -> Verdict:
    """The verdict of a check, with as many samples as it takes, up to the settings' bounds or the deadline."""
    check = CHECKS[name](cell, reference)
    first, most = check.extent(settings)
    once = settings.fixed or limit is None
    planned = [first] if once else looks.sizes(first, max(first, most))
    return looks.adjusted(looks.follow(planned, check.grow, lambda alpha: check.look(limit, alpha), deadline_seconds))
