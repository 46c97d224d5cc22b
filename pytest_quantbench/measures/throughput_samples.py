"""T1's raw samples: every generation with the time of each token, and what the machine was like meanwhile."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.engines.accelerator import Accelerator
from pytest_quantbench.engines.process_memory import ProcessPeak
from pytest_quantbench.engines.resident import Timed

STEADY = 0.05  # by which the rates of two warm-up runs in a row may differ
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
    cpu_share: float | None = None  # processors' seconds over the clock's; None where an accelerator computes
    joules: float | None = None  # that the machine took meanwhile; None where nothing tells

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


def steady(runs: Sequence[Run]) -> bool:
    """Whether the last two runs were as fast as each other."""
    if len(runs) < 2:
        return False
    return abs(math.log(runs[-1].tokens_per_second / runs[-2].tokens_per_second)) <= math.log1p(STEADY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a model took while it was loaded and warmed up, in bytes. None: the system, or the engine, does not tell."""

    peak_bytes: int  # of arrays, by the engine's own count; of PyTorch on a CPU, of the process
    reserved_bytes: int | None = None  # the most that the engine took of the device, with what it keeps for reuse
    process_peak: ProcessPeak | None = None  # of the whole process
    before_bytes: int | None = None  # resident memory of the process before it loaded
    resident_bytes: int | None = None  # and behind the warm-up


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputSamples:
    """T1. `runs` goes round the prompts; `reference_runs` has the reference's if they were interleaved."""

    warm_ups: tuple[Run, ...]  # until the rate was steady, or there were enough of them
    runs: tuple[Run, ...]
    reference_runs: tuple[Run, ...]
    probes_per_second: tuple[float, ...]  # a fixed matrix product in front of every run, and behind the last
    load_seconds: float
    memory: Memory
    activations: str
    dense_layers: int  # matrices that had no native kernel and ran decoded
    prompts: tuple[str, ...] = PROMPTS
    reference_warm_ups: tuple[Run, ...] = ()
    seed: int = 0  # by which the order within rounds was drawn
    reference_first: tuple[bool, ...] = ()  # in which rounds the reference came first
    threads: int | None = None  # on which the engine computes; None where it does not tell
    energy_of: str = ""  # whose joules the runs tell; empty: nothing tells
    accelerator: Accelerator | None = None  # as its driver told right behind the last run
    bytes_per_token: int | None = None  # that a decode step reads at least
    kernels: Mapping[str, int] = field(default_factory=dict)  # how many matrices run through each
    step: str = ""  # how a decode step is run
    read_rates: tuple[float, ...] = ()  # bytes per second of the memory, before, between and after the runs
    reference_bytes_per_token: int | None = None  # of the reference whose runs were interleaved
    reference_read_rates: tuple[float, ...] = ()  # of as many bytes as it has, in front of each of its runs

    processors_had: tuple[float, ...] = ()  # in front of each run, of what so many threads ask for; empty: untold

    def first(self, runs: int) -> "ThroughputSamples":
        """The first so many runs with their probes, and the reference's that were interleaved, with its reads."""
        return replace(
            self,
            runs=self.runs[:runs],
            probes_per_second=self.probes_per_second[: runs + 1],
            reference_runs=self.reference_runs[:runs],
            reference_first=self.reference_first[:runs],
            read_rates=self.read_rates[: runs + 1],
            reference_read_rates=self.reference_read_rates[:runs],
            processors_had=self.processors_had[:runs],
        )
