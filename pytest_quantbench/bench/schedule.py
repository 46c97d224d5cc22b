"""Which samples are needed, and the shortest way to them: what is kept is taken, the rest shares walks.

Which targets a session will ask for is known before the first is measured (`expected`): the first that is asked for
takes along all that lack the same. A target that cannot be measured (its compression fails, its numbers end) is left
out, and whoever asks for it is told why. What is added later is scored in other windows and batches than what was
there, which is the same to rounding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pytest_quantbench import engines, measures
from pytest_quantbench.bench.artifacts import Artifacts
from pytest_quantbench.bench.inputs import Inputs
from pytest_quantbench.bench.sample_store import Samples, alone
from pytest_quantbench.bench.shared_walk import SharedWalk, Track, named
from pytest_quantbench.bench.target import Target
from pytest_quantbench.bench.timing import Timings
from pytest_quantbench.bench.wants import Lack, Want, doing, references, together, with_reference
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.measures import ArtifactMeasure, FileMeasure, ProcessMeasure, ResidentMeasure, WalkMeasure
from pytest_quantbench.measures.integrity.inspection import Inspected
from pytest_quantbench.measures.integrity.measure import INTEGRITY
from pytest_quantbench.progress import stage


class Schedule:
    """One model's: what is measured of it, in which order. `expected`: what this session will ask for."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.artifacts = Artifacts(inputs)
        self.timings = Timings(inputs, self.artifacts)
        self.samples = Samples(inputs.settings.cache, self.artifacts.identify, fresh=inputs.settings.fresh)
        self.expected: list[Want] = []

    def ensure(self, wants: Sequence[Want]) -> None:
        """See to it that these samples are there, of this session or an earlier one, or why they are not.

        Along a walk, first samples come before more of them, and what is expected comes along. The reference is wanted
        wherever something is that it is compared with, and comes first.
        """
        for want in wants:
            if self.samples.why_not(want.target, want.measure) is None:
                try:
                    self._take(want)
                except QuantbenchError as error:
                    self.samples.fail(want.target, want.measure, error)
        walked = [want for want in wants if want.measure.needs == "walk"]
        if walked:
            self._walk_for([replace(want, items=None, of=None) for want in walked], self.expected)
        if more := [want for want in walked if want.items is not None]:
            self._walk_for(more)

    def _take(self, want: Want) -> None:
        """Samples that take no walk, one target after the other."""
        measure = want.measure
        if measure.needs == "resident":
            self._timed(want.target, measure, want.items)
        elif measure.needs == "artifact":
            self._looked_at(want.target, measure)
        elif measure.needs == "file":
            self._run_files(want.target, measure)
        elif measure.needs == "processes":
            self._in_processes(want.target, measure)

    def _timed(self, target: Target, measure: ResidentMeasure[Any], items: int | None) -> None:
        samples, lacks = self.samples, self.timings.lacks
        if lacks(samples.get(target, measure), measure, items):
            work = measure.work(self.inputs, items)
            if not samples.recall(target, measure, work) or lacks(samples.get(target, measure), measure, items):
                with stage(measure.label, target.plain.id):
                    samples.put(target, measure, self.timings.measured(target, measure, items), work)

    def _looked_at(self, target: Target, measure: ArtifactMeasure[Any]) -> None:
        if not self._is_kept(target, measure) and measure.can_be_taken(target.recipe, self.inputs):
            artifact, reference = self.artifacts.of(target), self.artifacts.of(target.reference)
            with stage(measure.label, target.plain.id):
                samples = measure.measure(artifact, reference, self.inputs)
            self.samples.put(target, measure, samples, measure.work(artifact))

    def _run_files(self, target: Target, measure: FileMeasure[Any]) -> None:
        if self.samples.get(target, measure) is not None or not measure.can_be_taken(self.artifacts.of(target)):
            return
        beside = measures.get(measure.beside)
        self.ensure([Want(target=target, measure=beside)])
        own, reference = (self.samples.need(each, beside) for each in (target, target.reference))
        artifact = self.artifacts.of(target)
        work = measure.work(artifact, self.inputs)
        if not self.samples.recall(target, measure, work):
            with stage(measure.label, target.plain.id):
                found = measure.measure(artifact, self.inputs, own=own, reference=reference)
            self.samples.put(target, measure, found, work)

    def _in_processes(self, target: Target, measure: ProcessMeasure[Any]) -> None:
        artifact, paired = self.artifacts.of(target), target.paired
        work = measure.work(artifact, self.inputs)
        if self.samples.get(target, measure) is None and not self.samples.recall(target, measure, work):
            beside = None if paired is None else self.artifacts.of(paired)
            self.samples.put(target, measure, measure.measure(artifact, beside, self.inputs), work)

    def _is_kept(self, target: Target, measure: ArtifactMeasure[Any]) -> bool:
        if self.samples.get(target, measure) is not None:
            return True
        return self.samples.recall(target, measure, measure.work(self.artifacts.of(target)))

    def _walk_for(self, asked: Sequence[Want], along: Sequence[Want] = ()) -> None:
        """Samples along walks. Where what is asked for cannot be read, or its weights cannot be had, nothing is walked
        for the others' sake alone.
        """
        wants = [each for want in (*along, *asked) for each in with_reference(want)]
        lacking = list(self._lacking(sorted(dict.fromkeys(wants), key=lambda want: want.target.paired is not None)))
        if any(self.samples.why_not(want.target, want.measure) for want in asked):
            return
        possible = list(self._possible(lacking))  # what has to be compressed is, before others are kept waiting
        if any(self.samples.why_not(want.target, want.measure) for want in asked):
            return
        with alone(self.inputs.settings.cache, self._locks(possible), references(possible)):
            for walk in together([lack for lack in possible if not self._recalled(lack)]):
                self._walk(walk)

    def _lacking(self, wants: Sequence[Want]) -> Iterator[Lack]:
        """What nobody has, and earlier sessions have not measured."""
        for want in wants:
            if self.samples.why_not(want.target, want.measure) is None:
                try:
                    lack = self._lack(want)
                except QuantbenchError as error:
                    self.samples.fail(want.target, want.measure, error)
                    continue
                if lack is not None and not self._recalled(lack):
                    yield lack

    def _lack(self, want: Want) -> Lack | None:
        """What has to be read for a want. Raises QuantbenchError where it cannot be read, and where the reference that
        it would be compared with has no samples.
        """
        target, measure = want.target, want.measure
        if measure.needs != "walk":
            return None
        before = self.samples.get(target, measure)
        share = measure.share(self.inputs, want.items, before, want.of)
        if share is None:
            return None
        if measure.paired and target.paired and (error := self.samples.why_not(target.paired, measure)) is not None:
            raise named(target, error)
        if not share.reads:
            self.samples.put(target, measure, share.unread(before))
            return None
        return Lack(target=target, measure=measure, share=share)

    def _recalled(self, lack: Lack) -> bool:
        try:
            return self.samples.recall(lack.target, lack.measure, self._work(lack))
        except QuantbenchError:
            return False  # it cannot be compressed, which is told when it is tried

    def _work(self, lack: Lack) -> Mapping[str, Any]:
        """All that the samples depend on besides the model."""
        if not lack.measure.paired:
            return lack.share.work
        paired = lack.target.paired
        return {**lack.share.work, "reference": paired and self.samples.key(paired, lack.measure)}

    def _possible(self, lacking: Sequence[Lack]) -> Iterator[Lack]:
        """What of it can be measured. What keeps a target from the rest is kept, for whoever asks."""
        for target in dict.fromkeys(lack.target for lack in lacking):
            own = [lack for lack in lacking if lack.target == target]
            try:
                artifact = self.artifacts.of(target)
            except QuantbenchError as error:
                for lack in own:
                    self.samples.fail(target, lack.measure, error)
                continue
            for lack in own:
                try:
                    self._refuse(lack, artifact)
                except QuantbenchError as error:
                    self.samples.fail(target, lack.measure, error)
                else:
                    yield lack

    def _refuse(self, lack: Lack, artifact: Artifact) -> None:
        """Raise QuantbenchError for a text that the target was fitted to, for an engine that cannot hold its cache, and
        for an architecture whose walk is not its forward pass, which is tried in small when this is first asked; each
        measure for itself.
        """
        if lack.target.recipe.cache is not None:
            engines.need(self.inputs.engine, "kv")
        lack.measure.refuse(self.inputs, calibrated=self.artifacts.calibrated_by(lack.target) is not None)
        proof = self.inputs.engine.prove(artifact)
        proof.refuse(())
        lack.share.batches(proof)

    def _locks(self, lacking: Sequence[Lack]) -> dict[str, Mapping[str, Any]]:
        """What no other session is to measure meanwhile: all that samples depend on, by what they are told."""
        return {
            doing(lack): {
                "of": lack.measure.name,
                "artifact": self.artifacts.key(lack.target),
                "rounding": lack.target.rounds,
                "work": lack.share.work,
            }
            for lack in lacking
        }

    def _walk(self, lacking: Sequence[Lack]) -> None:
        """Take what targets lack that lack the same."""
        targets = sorted(dict.fromkeys(lack.target for lack in lacking), key=lambda each: each.recipe.cache is not None)
        measured = [(lack.measure, lack.share) for lack in lacking if lack.target == lacking[0].target]
        tracks = [self._track(target, [measure for measure, _ in measured]) for target in targets]
        walk = SharedWalk(self.inputs.engine, tracks, measured, memory_bytes=self.inputs.settings.memory_bytes)
        cells = list(dict.fromkeys(target.plain.id for target in targets))
        with stage(walk.labels, *cells):
            self._keep(walk, lacking)

    def _keep(self, walk: SharedWalk, lacking: Sequence[Lack]) -> None:
        works = {(lack.target, lack.measure.name): lack for lack in lacking}
        for taken in walk.taken():
            if taken.error is not None:
                self.samples.fail(taken.target, taken.measure, taken.error)
            elif taken.measure is INTEGRITY:
                self.samples.put(
                    taken.target, INTEGRITY, taken.samples, INTEGRITY.work(self.artifacts.of(taken.target))
                )
            else:
                work = self._work(works[taken.target, taken.measure.name])
                self.samples.put(taken.target, taken.measure, taken.samples, work)

    def _track(self, target: Target, measured: Sequence[WalkMeasure[Any]]) -> Track:
        samples, paired = self.samples, target.paired
        return Track(
            target=target,
            artifact=self.artifacts.of(target),
            inspected=self._inspected(target),
            before={measure.name: samples.get(target, measure) for measure in measured},
            reference={
                measure.name: samples.why_not(paired, measure) or samples.get(paired, measure)
                for measure in measured
                if paired is not None
            },
        )

    def _inspected(self, target: Target) -> Inspected | None:
        """The weights of a target, to be looked at as they pass; None where that has been done, or cannot be."""
        if self._is_kept(target, INTEGRITY) or not INTEGRITY.can_be_taken(target.recipe, self.inputs):
            return None
        return INTEGRITY.inspected(self.artifacts.of(target), self.inputs)
