"""T1: the whole model in memory, run after run, whoever asks for each."""

from pytest_quantbench.bench.artifacts import Artifacts
from pytest_quantbench.bench.inputs import Inputs
from pytest_quantbench.bench.target import Target
from pytest_quantbench.engines.machine import memory_bytes
from pytest_quantbench.measures import throughput
from pytest_quantbench.measures.samples import ThroughputSamples

MEMORY_SHARE = 0.7  # of physical memory that two resident models may take together


class Timings:
    """The sessions of T1, by target: started and warmed up when first asked for."""

    def __init__(self, inputs: Inputs, artifacts: Artifacts) -> None:
        self._inputs, self._artifacts = inputs, artifacts
        self._sessions: dict[Target, throughput.Session] = {}

    def session(self, target: Target) -> throughput.Session:
        """One target's; its runs are interleaved with the reference's where T1 is judged and both models fit in memory.

        Raises ModelError for a model that cannot be timed.
        """
        if target not in self._sessions:
            session = throughput.Session(
                engine=self._inputs.engine,
                artifact=self._artifacts.of(target),
                tokenizer_directory=self._inputs.checkpoint.directory,
                runs=self._inputs.settings.runs,
                new_tokens=throughput.THROUGHPUT.new_tokens,
                reference=None if (beside := self._beside(target)) is None else self._artifacts.of(beside),
            )
            session.start()
            self._sessions[target] = session
        return self._sessions[target]

    def _beside(self, target: Target) -> Target | None:
        """The reference, where its runs are interleaved with the target's."""
        paired = target.paired
        if paired is None or self._inputs.engine.backend == "cpu":
            return None
        together = sum(self._artifacts.of(each).manifest.stored_bytes for each in (target, paired))
        return paired if together < MEMORY_SHARE * memory_bytes() else None

    def measured(self, target: Target, runs: int) -> ThroughputSamples:
        """The samples of so many runs of every prompt; those that are left are done now, and the model is let go."""
        session = self.session(target)
        session.runs = max(session.runs, runs)
        return session.finish()

    def let_go(self, target: Target) -> None:
        """Drop the models of a session that was started; later runs load them again."""
        if target in self._sessions:
            self._sessions[target].let_go()
