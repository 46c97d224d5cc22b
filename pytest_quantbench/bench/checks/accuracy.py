"""T3 as a verdict sees it: the questions of one task."""

from dataclasses import replace

from pytest_quantbench.bench.checks.protocol import Check
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.judge import accuracy_drop
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.samples import AccuracySamples


class AccuracyCheck(Check[AccuracySamples]):
    """T3: items are questions of a task, of several samples' first."""

    def part(self, samples: AccuracySamples, of: str | None) -> AccuracySamples:
        """One task's."""
        return samples.part(of)

    def extent(self, samples: AccuracySamples, settings: Settings) -> tuple[int, int]:
        """From `--limit` to all questions of the task."""
        available = samples.available[_judged(samples)]
        return min(settings.limit, available), available

    def count(self, samples: AccuracySamples) -> int:
        """Questions that were answered."""
        return len(samples.tasks[_judged(samples)].ids)

    def first(self, samples: AccuracySamples, items: int) -> AccuracySamples:
        """Of the judged task alone."""
        name = _judged(samples)
        return replace(samples, tasks={name: samples.tasks[name].first(items)})

    def look(
        self,
        samples: AccuracySamples,
        reference: AccuracySamples,
        limit: float | None,
        alpha: float,
        floor: float | None,
    ) -> Verdict:
        """With both accuracies on the task, as fractions."""
        name = _judged(samples)
        mine, before = samples.tasks[name], reference.tasks[name]
        verdict = accuracy_drop.judge_accuracy(name, mine, before, limit, alpha, samples.available[name], floor)
        value, reference_value = (float(each.correct.mean()) for each in (mine, before))
        return replace(verdict, of=name, value=value, reference_value=reference_value)

    def hopeless(self, samples: AccuracySamples, reference: AccuracySamples, limit: float | None) -> bool:
        """Where the reference guesses."""
        return accuracy_drop.hopeless(reference.tasks[_judged(reference)], limit)


def _judged(samples: AccuracySamples) -> str:
    return next(iter(samples.tasks))
