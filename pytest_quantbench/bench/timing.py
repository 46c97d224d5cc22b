"""The samples of one cell: measured when first asked for, kept, and added to when a verdict needs more."""

from functools import cached_property
from typing import Any

from pytest_quantbench.bench.schedule import Walked
from pytest_quantbench.catalog.prompts import NEW_TOKENS, PROMPTS
from pytest_quantbench.engines.machine import memory_bytes
from pytest_quantbench.measures import throughput, weights
from pytest_quantbench.measures.samples import SizeSamples, ThroughputSamples, WeightSamples

T1, T1_VERSION = "throughput_samples", 2  # raised when the measure gives other samples for the same work
WEIGHTS_VERSION = 1  # likewise
MEMORY_SHARE = 0.7  # of physical memory that two resident models may take together


class Measured(Walked):
    """One model × one recipe: T1, sizes and weights besides what is taken along a walk."""

    @property
    def size_samples(self) -> SizeSamples:
        """Bytes as stored."""
        return weights.size(self.artifact)

    def weight_samples_against(self, reference: "Measured") -> WeightSamples:
        """Every encoded matrix against the original."""
        name, work = "weight_samples", {"version": WEIGHTS_VERSION}
        if (kept := self.memory.recall(name, work, WeightSamples)) is not None:
            self.source.reused.append(f"weights of {self.source.model.name}-{self.recipe.id}")
            return kept
        samples = weights.measure(self.artifact, reference.artifact)
        self.memory.keep(name, work, samples)
        return samples

    @cached_property
    def throughput_session(self) -> throughput.Session:
        """T1, started and warmed up; interleaved where T1 is judged and both models fit in memory."""
        settings, paired, interleave = self.source.settings, self.paired, False
        if paired is not None and self.source.engine.backend != "cpu":
            together = self.artifact.manifest.stored_bytes + paired.artifact.manifest.stored_bytes
            interleave = together < MEMORY_SHARE * memory_bytes()
        session = throughput.Session(
            engine=self.source.engine,
            artifact=self.artifact,
            tokenizer_directory=self.source.checkpoint.directory,
            runs=settings.runs,
            new_tokens=NEW_TOKENS,
            reference=paired.artifact if paired is not None and interleave else None,
        )
        session.start()
        return session

    @cached_property
    def throughput_samples(self) -> ThroughputSamples:
        """T1's samples: of an earlier session, or whatever runs this one has left are done now."""
        return self.kept_throughput or self._finished()

    @cached_property
    def kept_throughput(self) -> ThroughputSamples | None:
        """T1's samples of an earlier session, if there are any."""
        kept = self.memory.recall(T1, self._runs(self.source.settings.runs), ThroughputSamples)
        if kept is not None:
            self.source.reused.append(f"T1 of {self.source.model.name}-{self.recipe.id}")
        return kept

    def _finished(self) -> ThroughputSamples:
        samples = self.throughput_session.finish()
        self.memory.keys.pop(T1, None)
        self.memory.keep(T1, self._runs(self.throughput_session.runs), samples)
        return samples

    def _runs(self, runs: int) -> dict[str, Any]:
        """All that T1's samples depend on besides the model and the machine."""
        stored = self.source.settings.writes.stores  # loading takes longer where it encodes
        return {"version": T1_VERSION, "runs": runs, "prompts": PROMPTS, "new_tokens": NEW_TOKENS, "stored": stored}

    def grow_runs(self, runs: int) -> int:
        """See to it that there are so many runs over all prompts; returns how many there are."""
        if len(self.throughput_samples.runs) < runs:
            each = -(-runs // len(PROMPTS))
            self.memory.keys.pop(T1, None)
            kept = self.memory.recall(T1, self._runs(each), ThroughputSamples)
            if kept is None:
                self.throughput_session.runs = each
            self.throughput_samples = kept or self._finished()
        return len(self.throughput_samples.runs)
