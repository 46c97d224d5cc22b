"""T1 as a verdict sees it: runs over all prompts, on an engine whose speed is judged or shown only."""

from dataclasses import replace

from pytest_quantbench.bench.checks.protocol import Check
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.judge import rates, speed_ratio
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.throughput_samples import ThroughputSamples


class ThroughputCheck(Check[ThroughputSamples]):
    """T1: items are runs over all prompts."""

    def extent(self, samples: ThroughputSamples, settings: Settings) -> tuple[int, int]:
        """From `--runs` to `most_runs` of every prompt; where nothing is judged nothing is added."""
        runs = settings.runs * len(settings.prompts)
        return runs, settings.most_runs * len(settings.prompts) if self.engine.judges_speed else runs

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

    def hopeless(self, samples: ThroughputSamples, reference: ThroughputSamples, limit: float | None) -> bool:
        """Where other load disturbed them."""
        return speed_ratio.hopeless(samples, reference)

    def is_whole_pair(self, samples: ThroughputSamples) -> bool:
        """Where they are interleaved."""
        return bool(samples.reference_runs)


def not_deployed(engine: Engine) -> str:
    """Why an engine's timings here are shown only; empty where they are judged."""
    place = "a CPU" if engine.backend == "cpu" else engine.backend
    return "" if engine.judges_speed else f"on {place}, where nobody deploys the engine {engine.name}"
