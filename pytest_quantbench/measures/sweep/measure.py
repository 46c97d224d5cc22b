"""The sweep as a measure: all of its points are one item. Chosen by `--sweep`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines.machine import describe
from pytest_quantbench.measures.protocol import Inputs, ResidentMeasure
from pytest_quantbench.measures.sweep import points, trial
from pytest_quantbench.measures.sweep.samples import SweepSamples
from pytest_quantbench.measures.sweep.trial import SweepTrial


class Sweep(ResidentMeasure[SweepSamples]):
    """T1 in full."""

    name, label, version = "sweep", "sweep", 2
    samples = SweepSamples

    def work(self, inputs: Inputs, items: int | None) -> Mapping[str, Any]:
        """The points, the prompts and what is drawn from them, and how much of each is run."""
        settings = inputs.settings
        return {
            "version": self.version,
            "batches": [points.BATCH_DEPTH, points.DECODED, *points.BATCHES],
            "depths": points.DEPTHS,
            "prefills": points.PREFILLS,
            "requests": [points.REQUESTED, *points.REQUESTS],
            "pairs": [trial.LEAST_PAIRS, trial.MOST_PAIRS, trial.POINT_SECONDS],
            "prompts": settings.prompts,
            "new_tokens": settings.new_tokens,
            "temperature": settings.temperature,
            "seed": settings.seed,
        }

    def lacks(self, inputs: Inputs, items: int | None, before: SweepSamples) -> bool:
        """Whether a point is missing for which memory was short, and has room by now beside the weights."""
        weights = before.bytes_per_token + (before.reference_bytes_per_token or 0)
        room = inputs.engine.free_bytes() - weights
        return any(0 < each.lacked_bytes <= room for each in before.points)

    def trial(self, artifact: Artifact, reference: Artifact | None, inputs: Inputs) -> SweepTrial:
        """A sweep, whose runs are interleaved with the reference's where there is one."""
        machine = msgspec.to_builtins(describe(inputs.engine))
        work = {**self.work(inputs, None), "machine": machine}
        return SweepTrial(inputs=inputs, artifact=artifact, reference=reference, work=work)


SWEEP = Sweep()
