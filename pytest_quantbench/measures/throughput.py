"""T1: tokens per second of the resident model, through mlx-lm's own generation step.

Five prompts × runs of 256 new tokens at temperature 0. End of sequence is ignored, so that every run has the same
length; one warm-up run is stored and left out. Prefill, time to first token and the gap before every token are kept
apart. A fixed matrix product before and after shows whether the machine itself drifted.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from pytest_quantbench.catalog.prompts import PROMPTS
from pytest_quantbench.checkpoints.tokenizer import frame_of, load_tokenizer, refuse_unknown_tokens
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines.mlx import resident
from pytest_quantbench.engines.mlx.positions import learned_positions
from pytest_quantbench.errors import ModelError
from pytest_quantbench.measures.samples import Run, ThroughputSamples

PROBE_SIDE = 512


@dataclass(slots=True, kw_only=True)
class Session:
    """T1 in progress: the caller decides when each run happens, so that a benchmark fixture can time it.

    With a `reference`, `run_reference` runs the same prompt on the reference model just before, for pairing.
    """

    artifact: Artifact
    tokenizer_directory: Path
    runs: int
    new_tokens: int
    reference: Artifact | None = None
    done: list[Run] = field(default_factory=list)
    reference_done: list[Run] = field(default_factory=list)

    _tokenizer: Any = None
    _loaded: resident.Resident | None = None
    _reference_loaded: resident.Resident | None = None
    _load_seconds: float = 0.0
    _warm_up: Run | None = None
    _first_probe: float = 0.0

    @property
    def rounds(self) -> int:
        """How many runs there are in all."""
        return self.runs * len(PROMPTS)

    def start(self) -> None:
        """Load, and run the warm-up. Raises ModelError for a tokenizer whose tokens the model does not know, and where
        prompt and new tokens are more than the model has positions.
        """
        self._tokenizer = load_tokenizer(self.tokenizer_directory)
        opened = frame_of(self._tokenizer).opened
        refuse_unknown_tokens({t for text in PROMPTS for t in opened(self._tokenizer, text)}, self.artifact.config)
        self._refuse_too_long()
        self._first_probe = self._first_probe or probe_per_second()  # models may be loaded more than once
        mx.reset_peak_memory()
        began = time.perf_counter()
        self._loaded = resident.load(self.artifact)
        self._load_seconds = time.perf_counter() - began
        self._warm_up = self._generate(self._loaded, 0)
        if self.reference is not None:
            self._reference_loaded = resident.load(self.reference)
            self._generate(self._reference_loaded, 0)

    def _refuse_too_long(self) -> None:
        """Raise ModelError where a generation would go beyond a table of learned positions."""
        held = learned_positions({name: self.artifact.tensor(name).shape for name in self.artifact.names})
        needed = max(len(self._tokenizer.encode(prompt)) for prompt in PROMPTS) + self.new_tokens
        if held is not None and needed > held:
            raise ModelError(
                f"T1 needs {needed} positions, {self.new_tokens} of them for new tokens, and the model has learned "
                f"{held}: it cannot be timed. Its other checks are not touched by this."
            )

    def _generate(self, loaded: resident.Resident, prompt: int) -> Run:
        return generate(loaded.model, self._tokenizer, prompt, self.new_tokens)

    def run_reference(self) -> None:
        """The next run's prompt on the reference, if there is one. Loads the models where they were let go."""
        if self._loaded is None:
            self.start()
        if self._reference_loaded is not None:
            prompt = len(self.done) % len(PROMPTS)
            self.reference_done.append(self._generate(self._reference_loaded, prompt))

    def run(self) -> Run:
        """The next run. Loads the models where they were let go, as `finish` does."""
        if self._loaded is None:
            self.start()
        assert self._loaded is not None
        self.done.append(self._generate(self._loaded, len(self.done) % len(PROMPTS)))
        return self.done[-1]

    def finish(self) -> ThroughputSamples:
        """Whatever runs are left, then the samples; the models are let go."""
        while len(self.done) < self.rounds:
            self.run_reference()
            self.run()
        assert self._loaded is not None
        assert self._warm_up is not None
        peak, loaded = mx.get_peak_memory(), self._loaded
        self.let_go()
        return ThroughputSamples(
            warm_up=self._warm_up,
            runs=tuple(self.done),
            reference_runs=tuple(self.reference_done),
            probes_per_second=(self._first_probe, probe_per_second()),
            load_seconds=self._load_seconds,
            peak_bytes=peak,
            activations=loaded.activations,
            dense_layers=loaded.dense_layers,
        )

    def let_go(self) -> None:
        """Drop the models."""
        self._loaded = self._reference_loaded = None
        mx.clear_cache()


def generate(model: nn.Module, tokenizer: Any, prompt: int, new_tokens: int) -> Run:
    """One greedy generation of exactly `new_tokens` tokens from PROMPTS[prompt], timed token by token."""
    from mlx_lm.generate import generate_step

    ids = frame_of(tokenizer).opened(tokenizer, PROMPTS[prompt])
    produced: list[int] = []
    times: list[float] = []
    began = time.perf_counter()
    for token, _ in generate_step(mx.array(ids), model, max_tokens=new_tokens):
        produced.append(int(token))
        times.append(time.perf_counter())
    return Run(
        prompt=prompt,
        prompt_tokens=len(ids),
        new_tokens=len(produced),
        seconds=times[-1] - began,
        first_token_seconds=times[0] - began,
        prefill_tokens_per_second=len(ids) / (times[0] - began),
        latencies_seconds=np.diff(np.array(times)).astype(np.float32),
        tokens=tuple(produced),
        text=tokenizer.decode(produced),
    )


def probe_per_second(side: int = PROBE_SIDE, repeats: int = 5) -> float:
    """Products per second of two fixed (side, side) float32 matrices: the best of a few, to compare over time."""
    matrix = mx.full((side, side), 0.5, dtype=mx.float32)
    mx.eval(matrix)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        mx.eval(matrix @ matrix)
        seconds.append(time.perf_counter() - began)
    return 1 / min(seconds)
