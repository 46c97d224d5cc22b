"""A sweep of one model in progress: point by point, each kept as soon as it is measured.

A point is run in pairs: the model and the reference, which of them first by chance, a probe in front of every pair. The
first run of each of both is thrown away: it compiles what the point takes. A point has as many pairs as fit into its
time, at least LEAST_PAIRS and at most MOST_PAIRS; where prompts of a list are answered, each as often as any other.
What was measured of a sweep that was stopped is taken from the cache by the next one that is like it; points that were
left out are tried again.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pytest_quantbench.checkpoints.tokenizer import frame_of
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines import need
from pytest_quantbench.engines.energy import Meter, meter_of
from pytest_quantbench.engines.resident import Timed, TimedBatch
from pytest_quantbench.errors import DiskError, ModelError
from pytest_quantbench.measures.protocol import Inputs, Trial
from pytest_quantbench.measures.sweep import points
from pytest_quantbench.measures.sweep.samples import Kind, Point, PointRun, PointSamples, SweepSamples
from pytest_quantbench.measures.throughput_runs import PROBE_SIDE, PROBES, observed, processors_had
from pytest_quantbench.progress import Steps
from pytest_quantbench.storage.samples_cache import key_of, load, save

LEAST_PAIRS, MOST_PAIRS = 3, 20
POINT_SECONDS = 1.5  # of the pairs of a point, in which no further one begins
PROBED = 5  # probes at a time: the middle one of so many tells of the machine where there are few pairs
MEMORY_SHARE = 0.7  # of the memory that is left, which a reference may take beside a loaded model
MOST_PROMPTS = 16  # that are answered end to end
log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class SweepTrial(Trial[SweepSamples]):
    """`work`: what the measure says that its samples depend on, by which points are kept."""

    inputs: Inputs
    artifact: Artifact
    reference: Artifact | None
    work: Mapping[str, Any]

    _loaded: Any = None
    _reference_loaded: Any = None
    _prompts: list[list[int]] = field(default_factory=list)
    _done: list[PointSamples] = field(default_factory=list)
    _meter: Meter | None = None
    _samples: SweepSamples | None = None

    def start(self) -> None:
        """Load what is measured, and the reference where there is memory for both."""
        need(self.inputs.engine, "resident")
        need(self.inputs.engine, "batches")
        opened, tokenizer = frame_of(self.inputs.tokenizer).opened, self.inputs.tokenizer
        self._prompts = [opened(tokenizer, text) for text in self.inputs.settings.prompts[:MOST_PROMPTS]]
        engine = self.inputs.engine
        self._meter = meter_of(engine.backend)
        self._loaded = engine.load(self.artifact, "timed")
        if self.reference is not None and self.reference.manifest.stored_bytes < MEMORY_SHARE * engine.free_bytes():
            self._reference_loaded = engine.load(self.reference, "timed")

    def finish(self, items: int | None) -> SweepSamples:
        """All points that were not measured yet; the models are let go."""
        if self._samples is None:
            if self._loaded is None:
                self.start()
            self._samples = self._swept()
        self.let_go()
        return self._samples

    def let_go(self) -> None:
        """Drop the models."""
        self._loaded = self._reference_loaded = None
        self.inputs.engine.release()

    def _swept(self) -> SweepSamples:
        wanted = points.points(
            self.inputs.capacity.positions,
            max(map(len, self._prompts)),
            len(self._prompts),
            self.inputs.settings.new_tokens,
        )
        steps = Steps(f"sweep of {self.artifact.recipe_id}", "point", len(wanted))
        steps.begin()
        for point in wanted:
            self._done.append(self._kept(point))
            steps.at(len(self._done))
        steps.end()
        loaded, beside = self._loaded, self._reference_loaded
        return SweepSamples(
            points=tuple(self._done),
            seed=self.inputs.settings.seed,
            temperature=self.inputs.settings.temperature,
            activations=loaded.activations,
            bytes_per_token=loaded.bytes_per_token,
            cache_bytes_per_token=loaded.cache_bytes_per_token,
            reference_bytes_per_token=None if beside is None else beside.bytes_per_token,
        )

    def _kept(self, point: Point) -> PointSamples:
        """A point of a sweep like this that was stopped, or measured now and kept."""
        settings, beside = self.inputs.settings, self._reference_loaded is not None and self.reference
        content = {
            "of": "sweep_point",
            "work": self.work,
            "artifact": self.artifact.manifest.key,
            "reference": beside.manifest.key if beside else None,
            "point": point.name,
        }
        key = key_of(content)
        if not settings.fresh and (found := load(settings.cache, key, PointSamples)) is not None:
            return found
        found = self._measured(point)
        if found.skipped:
            return found
        try:
            save(settings.cache, key, found)
        except DiskError as error:
            log.warning("A point of the sweep is not kept for later sessions. %s", error)
        return found

    def _measured(self, point: Point) -> PointSamples:
        if why := points.too_long(point, self.inputs.capacity.positions):
            return PointSamples(point=point, skipped=why)
        needed = self._needed_bytes(point)
        if why := points.too_large(needed, self.inputs.engine.free_bytes()):
            return PointSamples(point=point, skipped=why, lacked_bytes=needed)
        try:
            return self._pairs(point)
        except ModelError as error:
            return PointSamples(point=point, skipped=str(error))

    def _needed_bytes(self, point: Point) -> int:
        """What the texts of a point take, of both models."""
        models = [model for model in (self._loaded, self._reference_loaded) if model is not None]
        return sum(model.batch_bytes(point.rows, max(point.depth, 1) + point.new_tokens) for model in models)

    def _pairs(self, point: Point) -> PointSamples:
        run, started = RUNS[point.kind], time.perf_counter()
        both = [self._loaded, *([] if self._reference_loaded is None else [self._reference_loaded])]
        steps = [run(self, point, model, 0)[1] for model in both]  # compiles, and is no run
        done: list[list[PointRun]] = [[] for _ in both]
        first, probes, reads, had = list[bool](), self._probes(), [self._read()], list[float]()
        began = time.perf_counter()
        turn = len(self._prompts) if point.kind == "end to end" else 1
        chance = np.random.default_rng((self.inputs.settings.seed, *map(ord, point.name)))
        while self._goes_on(len(first), turn, time.perf_counter() - began):
            had += self._processors_had()
            first.append(len(both) > 1 and bool(chance.integers(2)))
            for place in (1, 0) if first[-1] else range(len(both)):
                done[place].append(self._observed(point, both[place], len(done[place])))
            probes += self._probes()
            reads.append(self._read())
        return PointSamples(
            point=point,
            step=steps[0],
            runs=tuple(done[0]),
            reference_runs=tuple(done[1]) if len(both) > 1 else (),
            reference_first=tuple(first) if len(both) > 1 else (),
            probes_per_second=tuple(probes),
            read_rates=tuple(reads),
            processors_had=tuple(had),
            threads=self.inputs.engine.threads,
            seconds=time.perf_counter() - started,
        )

    def _observed(self, point: Point, model: Any, place: int) -> PointRun:
        return observed(lambda: RUNS[point.kind](self, point, model, place)[0], self.inputs.engine, self._meter)

    def _goes_on(self, pairs: int, turn: int, seconds: float) -> bool:
        """Whether there is another pair behind so many, in so many seconds, that go round so many prompts."""
        if pairs < LEAST_PAIRS or pairs % turn:
            return True
        return seconds < POINT_SECONDS and pairs + turn <= MOST_PAIRS

    def _probes(self) -> list[float]:
        return [self.inputs.engine.products_per_second(PROBE_SIDE, PROBES) for _ in range(PROBED)]

    def _processors_had(self) -> list[float]:
        """One figure, where an engine tells on how many threads of a CPU it computes."""
        engine = self.inputs.engine
        return [processors_had(engine.threads)] if engine.backend == "cpu" and engine.threads is not None else []

    def _read(self) -> float:
        return self.inputs.engine.read_bytes_per_second(self._loaded.bytes_per_token)

    def _texts(self, point: Point) -> list[list[int]]:
        stream = [token for prompt in self._prompts for token in prompt]
        return list(points.texts(stream, points.lengths(point, self.inputs.settings.seed)))

    def decode(self, point: Point, model: Any, place: int) -> tuple[PointRun, str]:
        """One run of a decode or a prefill point, and how its steps were run."""
        found: TimedBatch = model.timed_batch(self._texts(point), point.new_tokens)
        return run_of(found), found.step

    def end_to_end(self, point: Point, model: Any, place: int) -> tuple[PointRun, str]:
        """One prompt of the list after the other, drawn with the same seed on both models."""
        settings, number = self.inputs.settings, place % len(self._prompts)
        sampler = model.sampler(settings.seed + place, settings.temperature)
        found: TimedBatch = model.timed_batch([self._prompts[number]], point.new_tokens, sampler)
        return replace(run_of(found), prompt=number), found.step

    def requests(self, point: Point, model: Any, place: int) -> tuple[PointRun, str]:
        """All requests at once, as answers are written."""
        found: tuple[Timed, ...] = model.timed_requests(self._texts(point), point.new_tokens)
        firsts = np.array([each.seconds[0] for each in found], np.float32)
        gaps = np.concatenate([np.diff(each.seconds) for each in found]).astype(np.float32)
        last = max(each.seconds[-1] for each in found)
        run = PointRun(first_seconds=float(firsts.max()), seconds=last, gaps_seconds=gaps, firsts_seconds=firsts)
        return run, "module by module"


def run_of(found: TimedBatch) -> PointRun:
    """A timed generation of texts that go on in step."""
    gaps = np.diff(np.array(found.seconds)).astype(np.float32)
    return PointRun(first_seconds=found.seconds[0], seconds=found.seconds[-1], gaps_seconds=gaps)


RUNS: Mapping[Kind, Callable[[SweepTrial, Point, Any, int], tuple[PointRun, str]]] = {
    "decode": SweepTrial.decode,
    "prefill": SweepTrial.decode,
    "end to end": SweepTrial.end_to_end,
    "requests": SweepTrial.requests,
}
