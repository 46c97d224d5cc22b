"""T1: tokens per second of the resident model, through the engine's own generation.

Prompts × runs of so many new tokens at temperature 0. End of sequence is ignored, so that every run has the same
length; warm-up runs are stored and left out. Prefill, time to first token and the gap before every token are kept
apart. How a run goes is told in `throughput_session`.
"""

from collections.abc import Mapping
from typing import Any

from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.measures.protocol import Inputs, ResidentMeasure
from pytest_quantbench.measures.throughput_runs import runs_for
from pytest_quantbench.measures.throughput_samples import ThroughputSamples
from pytest_quantbench.measures.throughput_session import Session


class Throughput(ResidentMeasure[ThroughputSamples]):
    """T1 as a measure: its items are runs over all prompts."""

    name, label, version = "throughput", "T1", 5
    samples = ThroughputSamples

    def work(self, inputs: Inputs, items: int | None) -> Mapping[str, Any]:
        """The runs, and whether loading takes longer because it encodes."""
        return {
            "version": self.version,
            "runs": self.runs(inputs, items),
            "prompts": inputs.settings.prompts,
            "new_tokens": inputs.settings.new_tokens,
            "stored": inputs.settings.writes.stores,
        }

    def lacks(self, inputs: Inputs, items: int | None, before: ThroughputSamples) -> bool:
        """Whether there are fewer runs over all prompts."""
        return items is not None and len(before.runs) < items

    def runs(self, inputs: Inputs, items: int | None) -> int:
        """How many runs of every prompt make so many items."""
        settings = inputs.settings
        return settings.runs if items is None else runs_for(items, len(settings.prompts))

    def trial(self, artifact: Artifact, reference: Artifact | None, inputs: Inputs) -> Session:
        """A session over the prompts, whose runs are interleaved with the reference's where there is one."""
        settings = inputs.settings
        return Session(
            engine=inputs.engine,
            artifact=artifact,
            tokenizer_directory=inputs.checkpoint.directory,
            runs=settings.runs,
            new_tokens=settings.new_tokens,
            prompts=settings.prompts,
            seed=settings.seed,
            reference=reference,
        )


THROUGHPUT = Throughput()
