"""T1, T2 and T3 as verdicts see them: how many samples there are and may be, how to get more, and one look at them.

A check holds a cell and its reference, and sees to it that both have the same items.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from pytest_quantbench.bench.growth import grow_questions, grow_tokens
from pytest_quantbench.bench.timing import Measured
from pytest_quantbench.catalog.prompts import PROMPTS
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.judge import accuracy_drop, interim, rates, rules
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.stats import series


class Check(Protocol):
    """One check of one cell."""

    def __init__(self, cell: Measured, reference: Measured) -> None: ...

    def extent(self, settings: Settings) -> tuple[int, int]:
        """How many items the first look has, and how many the last may have."""

    @property
    def whole(self) -> int | None:
        """How many items are all that there is to know, where samples are drawn from so many; None: of none."""

    def grow(self, items: int) -> int:
        """More samples of the cell and of the reference; returns how many both have."""

    def look(self, items: int, limit: float | None, alpha: float) -> Verdict:
        """The verdict on the first so many items of both."""

    def hopeless(self, items: int, limit: float | None) -> bool:
        """Whether a verdict that is undecided after so many items stays so, however many are added."""
        return False

    def compared(self, items: int) -> dict[str, Any]:
        """What the verdict is `of`, and the figures of these items: `value` and `reference_value` of a Verdict."""


class PerplexityCheck(Check):
    """T2: items are tokens of the corpus; of windows that are drawn, as many as whole windows score."""

    def __init__(self, cell: Measured, reference: Measured) -> None:
        self._cell, self._reference = cell, reference

    def extent(self, settings: Settings) -> tuple[int, int]:
        """From `--tokens` to `--max-tokens`, or to the end of the corpus."""
        samples = self._cell.perplexity_samples
        available, window = samples.available_tokens, 1 if samples.drawn is None else samples.drawn.tokens
        first, most = (-(-(each or available) // window) * window for each in (settings.tokens, settings.most_tokens))
        return min(first, available), min(most, available)

    @property
    def whole(self) -> int | None:
        """The corpus, where windows are drawn from it."""
        samples = self._cell.perplexity_samples
        return None if samples.drawn is None else samples.available_tokens

    def grow(self, items: int) -> int:
        """Of both, as far as the corpus has them."""
        return grow_tokens((self._reference, self._cell), items)

    def look(self, items: int, limit: float | None, alpha: float) -> Verdict:
        """Either may have gone further, for another cell or another limit."""
        scored, paired = (each.perplexity_samples.as_of(items) for each in (self._cell, self._reference))
        return rules.judge_perplexity(scored, paired, limit, alpha)

    def compared(self, items: int) -> dict[str, Any]:
        """Perplexities of the text."""
        scored, paired = (each.perplexity_samples.as_of(items) for each in (self._cell, self._reference))
        ppl, before = series.perplexity(scored.nll_nats), series.perplexity(paired.nll_nats)
        return {"of": scored.corpus, "value": ppl, "reference_value": before}


class AccuracyCheck(Check):
    """T3: items are questions of the first task, which is the one that is judged."""

    whole = None  # a task's questions stand for others

    def __init__(self, cell: Measured, reference: Measured) -> None:
        self._cell, self._reference = cell, reference

    def extent(self, settings: Settings) -> tuple[int, int]:
        """From `--limit` to all questions of the task."""
        available = self._cell.accuracy_samples.available[self._judged]
        return min(settings.limit, available), available

    def grow(self, items: int) -> int:
        """Of both, as far as the task has them."""
        return grow_questions((self._reference, self._cell), items)

    def look(self, items: int, limit: float | None, alpha: float) -> Verdict:
        """Either may have gone further, for another cell or another limit."""
        name = self._judged
        answered, before = (each.accuracy_samples.tasks[name].first(items) for each in (self._cell, self._reference))
        available = self._cell.accuracy_samples.available[name]
        return accuracy_drop.judge_accuracy(name, answered, before, limit, alpha, available)

    def hopeless(self, items: int, limit: float | None) -> bool:
        """Where the reference guesses."""
        return accuracy_drop.hopeless(self._reference.accuracy_samples.tasks[self._judged].first(items), limit)

    def compared(self, items: int) -> dict[str, Any]:
        """Accuracies on the task, as fractions."""
        name = self._judged
        mine, other = (each.accuracy_samples.tasks[name].first(items) for each in (self._cell, self._reference))
        return {"of": name, "value": float(mine.correct.mean()), "reference_value": float(other.correct.mean())}

    @property
    def _judged(self) -> str:
        return next(iter(self._cell.accuracy_samples.tasks))


class ThroughputCheck(Check):
    """T1: items are runs over all prompts."""

    whole = None

    def __init__(self, cell: Measured, reference: Measured) -> None:
        self._cell, self._reference = cell, reference

    def extent(self, settings: Settings) -> tuple[int, int]:
        """From `--runs` to `most_runs` of every prompt; on a CPU nothing is judged and nothing added."""
        runs = settings.runs * len(PROMPTS)
        return runs, runs if self._cell.source.engine.backend == "cpu" else settings.most_runs * len(PROMPTS)

    def grow(self, items: int) -> int:
        """Of both, unless the reference's runs are interleaved with the cell's own."""
        interleaved = self._cell.throughput_samples.reference_runs
        return min(each.grow_runs(items) for each in ((self._cell,) if interleaved else (self._reference, self._cell)))

    def look(self, items: int, limit: float | None, alpha: float) -> Verdict:
        """Informational on a CPU."""
        mine, other = (each.throughput_samples.first(items) for each in (self._cell, self._reference))
        return rules.judge_throughput(mine, other, limit, self._cell.source.engine.backend != "cpu", alpha)

    def compared(self, items: int) -> dict[str, Any]:
        """Mean rates; the reference's own where they may be compared."""
        mine, other = (each.throughput_samples.first(items) for each in (self._cell, self._reference))
        if mine.reference_runs:
            other = replace(other, runs=mine.reference_runs)
        before = None if rates.suppressed(mine, other) else rates.mean_rate(other)
        return {"value": rates.mean_rate(mine), "reference_value": before}


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
    planned = [first] if once else interim.sizes(first, max(first, most))

    def verdict_at(items: int, alpha: float) -> Verdict:
        return replace(check.look(items, limit, alpha), **check.compared(items))

    def hopeless(items: int) -> bool:
        return check.hopeless(items, limit)

    return interim.adjusted(interim.follow(planned, check.grow, verdict_at, deadline_seconds, check.whole, hopeless))
