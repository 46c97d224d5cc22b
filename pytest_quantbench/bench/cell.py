"""One cell: a target, judged against its reference; its verdicts, and the record of what was measured. No pytest."""

import time
from dataclasses import replace
from typing import Any

import msgspec

from pytest_quantbench import measures
from pytest_quantbench.bench.calibration_check import calibration_perplexity
from pytest_quantbench.bench.checks.deciding import decide
from pytest_quantbench.bench.criteria import Criteria
from pytest_quantbench.bench.engagement import said_nothing_of, told, untouched
from pytest_quantbench.bench.noise_floor import noise_floor_of, of_check, refuse_tighter
from pytest_quantbench.bench.refusals import refuse_identical, refuse_text
from pytest_quantbench.bench.schedule import Schedule
from pytest_quantbench.bench.target import Target
from pytest_quantbench.bench.wants import Want
from pytest_quantbench.catalog.criteria import METRICS, metric_of
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines.accelerator import accelerator
from pytest_quantbench.engines.machine import describe
from pytest_quantbench.engines.runtimes import Runtime
from pytest_quantbench.errors import CorpusError
from pytest_quantbench.judge import rules
from pytest_quantbench.judge.change import Change
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures import AnyMeasure, weights
from pytest_quantbench.measures.accuracy.measure import ACCURACY
from pytest_quantbench.measures.integrity.measure import INTEGRITY
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.measures.runtime.measure import RUNTIME
from pytest_quantbench.measures.throughput import THROUGHPUT
from pytest_quantbench.measures.throughput_session import Session
from pytest_quantbench.record import assembly
from pytest_quantbench.record.baseline import Baseline
from pytest_quantbench.record.cost import priced
from pytest_quantbench.record.pairing import Measured
from pytest_quantbench.record.raw import raw
from pytest_quantbench.record.schema import Record


class Cell:
    """One model × one recipe: samples when first asked for, verdicts from samples, a record of what was measured. The
    samples lie in the schedule, where other cells of the model find the reference's.
    """

    def __init__(self, target: Target, schedule: Schedule) -> None:
        self.target = target
        self.verdicts: dict[tuple[str, str, float | None], Verdict] = {}  # by their criterion
        self.schedule = schedule
        self.criteria = Criteria(target, schedule.inputs)
        self._saved: tuple[int, tuple[Verdict, ...]] = 0, ()
        self._deadline_seconds: float | None = None

    @property
    def id(self) -> str:
        """`Tiny-int4`."""
        return self.target.id

    @property
    def recipe(self) -> Recipe:
        """What is done to the model."""
        return self.target.recipe

    @property
    def artifact(self) -> Artifact:
        """The compressed model, found in the cache or made."""
        return self.schedule.artifacts.of(self.target)

    def samples(self, measure: str | AnyMeasure) -> Any:
        """The samples of a measure, or one by its name (`perplexity`, `weights`, …), taken if nobody has; None where
        there is nothing to measure. Raises what keeps the cell from being measured.
        """
        wanted = measures.get(measure) if isinstance(measure, str) else measure
        if wanted is THROUGHPUT and self.recipe.cache is not None:
            return None
        if wanted.needs == "artifact":  # the weights are decoded anyway: they are looked at, too
            self.schedule.ensure([Want(target=self.target, measure=INTEGRITY)])
        self.schedule.ensure([Want(target=self.target, measure=wanted)])
        if wanted.needs == "resident":  # the record compares the two; along a walk the reference comes by itself
            self.schedule.ensure([Want(target=self.target.reference, measure=wanted)])
        if (error := self.schedule.samples.why_not(self.target, wanted)) is not None:
            raise error
        return self.schedule.samples.get(self.target, wanted)

    @property
    def throughput_session(self) -> Session | None:
        """T1, started and warmed up, for whoever times its runs; None where an earlier session's are taken, and of a
        quantized cache, with which nothing is timed.
        """
        if self.recipe.cache is not None:
            return None
        samples, work = self.schedule.samples, THROUGHPUT.work(self.schedule.inputs, None)
        there = samples.get(self.target, THROUGHPUT) is not None or samples.recall(self.target, THROUGHPUT, work)
        if there:
            return None
        session = self.schedule.timings.trial(self.target, THROUGHPUT)
        assert isinstance(session, Session)
        return session

    @property
    def runtime(self) -> Runtime | None:
        """What runs the files of a candidate where they are deployed; None where there is no candidate, or nothing here
        runs its format.
        """
        return RUNTIME.runtime_of(self.artifact)

    @property
    def problems(self) -> tuple[str, ...] | None:
        """What is wrong with the decoded weights, a sentence each; None where nothing is known, or asked."""
        found = self.samples(INTEGRITY)
        return None if found is None else tuple(found.problems)

    def limit(self, metric: str, of: str | None = None) -> float | None:
        """The limit that this cell is judged by, None for informational; of the first text or task, or of one named."""
        return self.criteria.limit(metric, of)

    def judge_all(self, check: str) -> list[Verdict]:
        """The verdicts of one check by every criterion that this cell has for it: on the first text or task, and on
        each other that has a limit of its own. Raises what `judge` raises.
        """
        return [self.judge(check), *(self.judge(check, of=name) for name in self.criteria.others(check))]

    def judge(self, check: str, limit: float | None = None, of: str | None = None) -> Verdict:
        """The verdict of one check (`size`, `perplexity`, …), on the first text or task or the one named. A `limit` is
        judged by instead of the cell's criterion, and stands in the record beside it. What failed stays failed there.

        Raises ComparisonError where samples may not be compared, T2 and T3 saw different weights, or the limit is
        below the noise floor, UnknownNameError for a check that does not exist, or a text or task that is not measured.
        """
        metric, part = metric_of(check), self.criteria.part(check, of)
        own = self.limit(metric, part)
        verdict = self._verdict(check, own if limit is None else limit, part)
        verdict = replace(verdict, given=limit not in (None, own))
        before = self.verdicts.get(verdict.criterion)
        if before is None or before.outcome != "fail":
            self.verdicts[verdict.criterion] = verdict
        assembly.evaluated_weights(self.id, self._measured())  # one and the same model in T2 and T3, or an error
        walk_to_come = any(want.target == self.target for want in self.schedule.expected)
        if not walk_to_come or METRICS[metric_of(check)].measure in (PERPLEXITY.name, ACCURACY.name):
            _ = self.problems
        if check == THROUGHPUT.name:
            self.schedule.timings.let_go(self.target)  # runs after `finish` load the model again
        found = self._since_baseline(check, verdict.criterion)
        self.verdicts[verdict.criterion] = replace(self.verdicts[verdict.criterion], baseline=found)
        return replace(verdict, baseline=found)

    def _since_baseline(self, check: str, criterion: tuple[str, str, float | None]) -> tuple[Change, ...]:
        """What became of every figure of a check since the baseline, said by the check's first verdict alone."""
        settings, others = self.schedule.inputs.settings, {k: v for k, v in self.verdicts.items() if k != criterion}
        is_told = any(METRICS[each.metric].check == check and each.baseline for each in others.values())
        if settings.baseline is None or is_told or check == "depth":  # T2's figures are told with its own verdict
            return ()
        now, floor = Measured(record=self.record(), arrays=self.raw()), noise_floor_of(self.target, self.schedule)
        return Baseline(settings.baseline).changes(now, check, floor, settings.baseline_figures)

    def _verdict(self, check: str, limit: float | None, of: str | None) -> Verdict:
        deadline_seconds = self._deadline()
        if (why := said_nothing_of(self.recipe, check)) is not None:
            return replace(rules.informational(metric_of(check), why), not_judged=why)
        if check == "size":
            return rules.judge_size(weights.size(self.artifact), limit)
        measure = METRICS[metric_of(check)].measure
        _ = self.samples(measure)  # what keeps it from being measured is told before anything else
        if measure == PERPLEXITY.name:
            refuse_text(self.target, self.schedule, of)
        if self.target.is_reference:
            return rules.informational(
                metric_of(check), "this is the reference that the other recipes are compared with"
            )
        if check == PERPLEXITY.name:
            refuse_identical(self.target, self.schedule)
        seen: Any = self.target, measures.get(measure), self.schedule.samples, of
        if why := untouched(*seen):
            return replace(rules.informational(metric_of(check), why), not_judged=why)
        is_candidate = self.recipe.candidate is not None
        floor = noise_floor_of(self.target, self.schedule, measure, of) if is_candidate or limit is not None else None
        if limit is not None:
            refuse_tighter(METRICS[metric_of(check)], limit, floor, of)
        beyond = of_check(check, floor) if is_candidate else None
        return told(decide(check, self.target, self.schedule, limit, deadline_seconds, beyond, of), *seen)

    def _deadline(self) -> float | None:
        """When the cell's time is up, by `time.monotonic()`: the clock starts with its first check."""
        budget = self.schedule.inputs.settings.time_budget_seconds
        if budget is not None and self._deadline_seconds is None:
            self._deadline_seconds = time.monotonic() + budget
        return self._deadline_seconds

    @property
    def unsaved(self) -> bool:
        """Whether anything was measured or judged since the record was last written."""
        mark, verdicts = self._saved
        own = (self.target, self.target.rounded) if self.target.is_reference else (self.target,)
        return self.schedule.samples.changed_since(mark, *own) or verdicts != tuple(self.verdicts.values())

    def saved(self) -> None:
        """Say that the record has been written as it is now."""
        self._saved = self.schedule.samples.mark, tuple(self.verdicts.values())

    def _measured(self) -> dict[str, Any]:
        return self.schedule.samples.by_measure(self.target)

    def record(self) -> Record:
        """What this session measured of the cell. Parts that it was not asked for are null."""
        schedule, reference = self.schedule, self.target.reference
        mine, before = self._measured(), schedule.samples.by_measure(reference)
        if PERPLEXITY.name in before and not self._is_readable(before[PERPLEXITY.name]):
            for name in (PERPLEXITY.name, RUNTIME.name):  # no figure of a text that the model cannot read
                mine.pop(name, None)
        found = assembly.summarize(
            self.target.model,
            self.recipe,
            schedule.inputs.checkpoint,
            self.artifact.manifest,
            samples=mine,
            reference=None if self.target.is_reference else before,
            verdicts=tuple(self.verdicts.values()),
            weights_sha256=assembly.evaluated_weights(self.id, self._measured()),
            calibration_ppl=calibration_perplexity(self.target, schedule),
            noise_floor=noise_floor_of(self.target, self.schedule),
            around_texts=lambda: schedule.inputs.around_texts,
            machine=describe(schedule.inputs.engine),
            accelerator=accelerator(schedule.inputs.engine.backend),
            seed=schedule.inputs.settings.seed,
            session=schedule.inputs.settings.session,
            candidate=self.artifact.candidate_facts,
            command=schedule.inputs.settings.command,
        )
        return priced(found, self.raw(), schedule.inputs.settings.price)

    def _is_readable(self, reference: Any) -> bool:
        try:
            PERPLEXITY.refuse_reference(self.schedule.inputs, reference)
        except CorpusError:
            return False
        return True

    def figures(self, part: str) -> dict[str, Any]:
        """One part of the record, such as `throughput`, as plain JSON values; empty if it was not measured."""
        return dict(msgspec.to_builtins(getattr(self.record(), part)) or {})

    def raw(self) -> dict[str, Any]:
        """The raw samples that this session measured, as named arrays: `part/name`."""
        return raw(self._measured())
