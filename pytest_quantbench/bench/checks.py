"""T1, T2 and T3 as verdicts see them: how many samples there are and may be, how to get more, and one look at them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from pytest_quantbench import measures
from pytest_quantbench.bench.schedule import Schedule
from pytest_quantbench.bench.target import Target
from pytest_quantbench.bench.wants import Want
from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.judge import accuracy_drop, interim, rates, rules, speed_ratio
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures import AnyMeasure
from pytest_quantbench.measures.samples import AccuracySamples, PerplexitySamples
from pytest_quantbench.measures.throughput_samples import ThroughputSamples
from pytest_quantbench.stats import series

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

    def hopeless(self, reference: S, limit: float | None) -> bool:
        """Whether a verdict that is undecided on these items stays so, however many are added."""
        return False

    def is_whole_pair(self, samples: S) -> bool:
        """Whether the reference's items are among these samples, so that none of its own are added."""
        return False


class PerplexityCheck(Check[PerplexitySamples]):
    """T2: items are tokens of a corpus; of windows that are drawn, as many as whole windows score."""

    def part(self, samples: PerplexitySamples, of: str | None) -> PerplexitySamples:
        """One text's."""
        return samples.part(of)

    def extent(self, samples: PerplexitySamples, settings: Settings) -> tuple[int, int]:
        """From `--tokens` to `--max-tokens`, or to the end of the corpus."""
        available, window = samples.available_tokens, 1 if samples.drawn is None else samples.drawn.tokens
        first, most = (-(-(each or available) // window) * window for each in (settings.tokens, settings.most_tokens))
        return min(first, available), min(most, available)

    def whole(self, samples: PerplexitySamples) -> int | None:
        """The corpus, where windows are drawn from it."""
        return None if samples.drawn is None else samples.available_tokens

    def count(self, samples: PerplexitySamples) -> int:
        """Tokens that were read."""
        return samples.text_tokens

    def first(self, samples: PerplexitySamples, items: int) -> PerplexitySamples:
        """What reading so many tokens gave."""
        return samples.as_of(items)

    def look(
        self,
        samples: PerplexitySamples,
        reference: PerplexitySamples,
        limit: float | None,
        alpha: float,
        floor: float | None,
    ) -> Verdict:
        """With both perplexities of the text."""
        verdict = rules.judge_perplexity(samples, reference, limit, alpha, floor)
        ppl, before = series.perplexity(samples.nll_nats), series.perplexity(reference.nll_nats)
        return replace(verdict, of=samples.corpus, value=ppl, reference_value=before)


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

    def hopeless(self, reference: AccuracySamples, limit: float | None) -> bool:
        """Where the reference guesses."""
        return accuracy_drop.hopeless(reference.tasks[_judged(reference)], limit)


def _judged(samples: AccuracySamples) -> str:
    return next(iter(samples.tasks))


class ThroughputCheck(Check[ThroughputSamples]):
    """T1: items are runs over all prompts."""

    def extent(self, samples: ThroughputSamples, settings: Settings) -> tuple[int, int]:
        """From `--runs` to `most_runs` of every prompt; where nothing is judged nothing is added."""
        runs = settings.runs * len(PROMPTS)
        return runs, settings.most_runs * len(PROMPTS) if self.engine.judges_speed else runs

    def count(self, samples: ThroughputSamples) -> int:
        """Runs."""
        return len(samples.runs)

    def first(self, samples: ThroughputSamples, items: int) -> ThroughputSamples:
        """With the reference's, where they are interleaved."""
        return samples.first(items)

    def look(
        self,
        samples: ThroughputSamples,
        reference: ThroughputSamples,
        limit: float | None,
        alpha: float,
        floor: float | None,
    ) -> Verdict:
        """To be faster than the reference is no anomaly. With mean rates; its own where they may be compared."""
        verdict = speed_ratio.judge_throughput(samples, reference, limit, not_deployed(self.engine), alpha)
        other = replace(reference, runs=samples.reference_runs) if samples.reference_runs else reference
        before = None if rates.suppressed(samples, other) else rates.mean_rate(other)
        return replace(verdict, value=rates.mean_rate(samples), reference_value=before)

    def is_whole_pair(self, samples: ThroughputSamples) -> bool:
        """Where they are interleaved."""
        return bool(samples.reference_runs)


def not_deployed(engine: Engine) -> str:
    """Why an engine's timings here are shown only; empty where they are judged."""
    place = "a CPU" if engine.backend == "cpu" else engine.backend
    return "" if engine.judges_speed else f"on {place}, where nobody deploys the engine {engine.name}"


CHECKS: Mapping[str, type[Check[Any]]] = {
    "perplexity": PerplexityCheck,
    "accuracy": AccuracyCheck,
    "throughput": ThroughputCheck,
}


def decide(
    name: str,
    target: Target,
    schedule: Schedule,
    limit: float | None,
    deadline_seconds: float | None = None,
    floor: float | None = None,
    of: str | None = None,
) -> Verdict:
    """The verdict of a check, with as many samples as it takes, up to the settings' bounds or the deadline. `floor`: of
    a candidate, beyond which it is anomalous to be better than the reference. `of`: the text or task that is judged;
    None: the first.
    """
    check, settings = CHECKS[name](schedule.inputs.engine), schedule.inputs.settings
    pair = _Pair(target, schedule, measures.get(name), check, of)
    own = pair.own()
    first, most = check.extent(own, settings)
    once = settings.fixed or limit is None
    looks = interim.Looks(
        [first] if once else interim.sizes(first, max(first, most)), deadline_seconds, check.whole(own)
    )
    while (wanted := looks.wanted) is not None:
        items, alpha = looks.at(pair.grow(wanted))
        mine, other = (check.first(each, items) for each in pair.both())
        looks.add(items, alpha, check.look(mine, other, limit, alpha, floor), hopeless=check.hopeless(other, limit))
    return interim.adjusted(looks.verdict)


class _Pair:
    """The samples of a target and of its reference on one text or task, as many of both."""

    def __init__(
        self, target: Target, schedule: Schedule, measure: AnyMeasure, check: Check[Any], of: str | None
    ) -> None:
        self._target, self._schedule = target, schedule
        self._measure, self._check, self._of = measure, check, of

    def own(self) -> Any:
        """The target's."""
        self._schedule.ensure([Want(target=self._target, measure=self._measure)])
        return self._there(self._target)

    def both(self) -> list[Any]:
        """What there is of both."""
        return [self._there(each) for each in (self._target, self._target.reference)]

    def _there(self, target: Target) -> Any:
        return self._check.part(self._schedule.samples.need(target, self._measure), self._of)

    def grow(self, items: int) -> int:
        """See to it that there are so many of both, as far as there are; returns how many both have."""
        alone = self._check.is_whole_pair(self.own())
        own = Want(target=self._target, measure=self._measure, items=items, of=self._of)
        reference = replace(own, target=self._target.reference, items=None if alone else items)
        self._schedule.ensure([reference, own])
        return min(map(self._check.count, [self.own()] if alone else self.both()))
