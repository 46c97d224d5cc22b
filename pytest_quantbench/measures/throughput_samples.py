"""T1's raw samples: every generation with the time of each token, and what the machine was like meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.accelerator import Accelerator
from pytest_quantbench.engines.process_memory import ProcessPeak
from pytest_quantbench.engines.resident import Timed

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One generation of T1. `latencies_seconds` is (new tokens − 1,): the gaps between successive tokens."""

    prompt: int
    prompt_tokens: int
    new_tokens: int
    seconds: float
    first_token_seconds: float
    prefill_tokens_per_second: float
    latencies_seconds: Floats
    tokens: tuple[int, ...]
    text: str

    @classmethod
    def of(cls, prompt: int, prompt_tokens: int, timed: Timed, text: str) -> "Run":
        """A timed generation, by its prompt."""
        first = timed.seconds[0]
        return cls(
            prompt=prompt,
            prompt_tokens=prompt_tokens,
            new_tokens=len(timed.tokens),
            seconds=timed.seconds[-1],
            first_token_seconds=first,
            prefill_tokens_per_second=prompt_tokens / first,
            latencies_seconds=np.diff(np.array(timed.seconds)).astype(np.float32),
            tokens=timed.tokens,
            text=text,
        )

    @property
    def tokens_per_second(self) -> float:
        """Output tokens over wall-clock seconds, prefill included."""
        return self.new_tokens / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputSamples:
    """T1. `runs` goes round the prompts; `reference_runs` has the reference's if they were interleaved."""

    warm_up: Run
    runs: tuple[Run, ...]
    reference_runs: tuple[Run, ...]
    probes_per_second: tuple[float, float]  # a fixed matrix product before and after: their ratio shows drift
    load_seconds: float
    peak_bytes: int
    activations: str
    dense_layers: int  # matrices that had no native kernel and ran decoded
    process_peak: ProcessPeak | None = None  # of the whole process
    accelerator: Accelerator | None = None  # as its driver told right behind the last run
    bytes_per_token: int | None = None  # that a decode step reads at least
    kernels: Mapping[str, int] = field(default_factory=dict)  # how many matrices run through each
    step: str = ""  # how a decode step is run
    read_rates: tuple[float, ...] = ()  # bytes per second of the memory, before, between and after the runs
    reference_bytes_per_token: int | None = None  # of the reference whose runs were interleaved
    reference_read_rates: tuple[float, ...] = ()  # of as many bytes as it has, in front of each of its runs

    def first(self, runs: int) -> "ThroughputSamples":
        """The first so many runs, and the reference's that were interleaved with them, with its reads."""
        beside = self.reference_runs[:runs], self.reference_read_rates[:runs]
        return replace(self, runs=self.runs[:runs], reference_runs=beside[0], reference_read_rates=beside[1])
