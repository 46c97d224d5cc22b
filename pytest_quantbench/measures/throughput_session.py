"""T1 in progress: warmed up, then round after round, the reference in turn with the model.

A round is one prompt on both, in an order that is drawn. In front of it stands what tells what the machine did
meanwhile: a fixed matrix product, how fast memory is read, and, on a CPU, what processors can be had.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pytest_quantbench.catalog.corpora import PROMPTS
from pytest_quantbench.checkpoints.tokenizer import frame_of, load_tokenizer, refuse_unknown_tokens
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines import need, process_memory
from pytest_quantbench.engines.accelerator import accelerator
from pytest_quantbench.engines.energy import Meter, meter_of
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.engines.resident import Resident
from pytest_quantbench.errors import ModelError
from pytest_quantbench.measures.protocol import Trial
from pytest_quantbench.measures.throughput_runs import (
    PROBE_SIDE,
    PROBES,
    generate,
    learned_positions,
    observed,
    processors_had,
    reference_first,
    runs_for,
    warmed,
)
from pytest_quantbench.measures.throughput_samples import Memory, Run, ThroughputSamples
from pytest_quantbench.progress import Steps

MEMORY_SHARE = 0.7  # of the memory that is left, which a reference may take beside a loaded model


@dataclass(slots=True, kw_only=True)
class Session(Trial[ThroughputSamples]):
    """The caller decides when each run happens, so that a benchmark fixture can time it: `prepare`, then `run`.

    With a `reference`, every round runs its prompt on the reference model too, just before or right behind, for
    pairing, if there is memory for it beside the loaded model: what the engine says is free then, whatever runs
    decoded. Which of both comes first is drawn by `seed`, once each in every two rounds.
    """

    engine: Engine
    artifact: Artifact
    tokenizer_directory: Path
    runs: int
    new_tokens: int
    prompts: Sequence[str] = PROMPTS
    seed: int = 0
    reference: Artifact | None = None
    done: list[Run] = field(default_factory=list)
    reference_done: list[Run] = field(default_factory=list)

    _tokenizer: Any = None
    _meter: Meter | None = None
    _loaded: Resident | None = None
    _reference_loaded: Resident | None = None
    _load_seconds: float = 0.0
    _warm_ups: tuple[Run, ...] = ()
    _reference_warm_ups: tuple[Run, ...] = ()
    _memory: Memory | None = None
    _is_beside: bool | None = None  # whether the reference is loaded too; decided once
    _probes: list[float] = field(default_factory=list)
    _read_rates: list[float] = field(default_factory=list)
    _reference_read_rates: list[float] = field(default_factory=list)
    _processors_had: list[float] = field(default_factory=list)
    _steps: Steps | None = None

    @property
    def rounds(self) -> int:
        """How many runs there are in all."""
        return self.runs * len(self.prompts)

    def start(self) -> None:
        """Load, and warm up until the rate is steady. Raises ModelError for a tokenizer whose tokens the model does not
        know, and where prompt and new tokens are more than the model has positions.
        """
        need(self.engine, "resident")
        self._tokenizer = load_tokenizer(self.tokenizer_directory)
        opened = frame_of(self._tokenizer).opened
        known = self.engine.capacity(self.artifact.config).vocabulary
        refuse_unknown_tokens({t for text in self.prompts for t in opened(self._tokenizer, text)}, known)
        self._refuse_too_long()
        self._meter = meter_of(self.engine.backend)
        self._load()
        self._read()
        self._load_reference()
        self._steps = Steps(f"T1 of {self.artifact.recipe_id}", "run", self.rounds)
        self._steps.begin()

    def _load(self) -> None:
        """The model, with the memory that it takes."""
        self.engine.reset_peak()
        since, before = process_memory.lower_mark(), process_memory.resident_bytes()
        began = time.perf_counter()
        loaded = self._loaded = self.engine.load(self.artifact, "timed")
        self._load_seconds = time.perf_counter() - began
        self._warm_ups = self._warmed(loaded)
        self._memory = Memory(
            peak_bytes=self.engine.peak_bytes(),
            reserved_bytes=self.engine.reserved_bytes(),
            process_peak=process_memory.peak(since),
            before_bytes=before,
            resident_bytes=process_memory.resident_bytes(),
        )

    def _load_reference(self) -> None:
        """Beside the model, where there is one and memory for it."""
        if self.reference is None:
            return
        if self._is_beside is None:
            self._is_beside = self.reference.manifest.stored_bytes < MEMORY_SHARE * self.engine.free_bytes()
        if self._is_beside:
            loaded = self._reference_loaded = self.engine.load(self.reference, "timed")
            self._reference_warm_ups = self._warmed(loaded)

    def _warmed(self, loaded: Resident) -> tuple[Run, ...]:
        """Made ready for every length of text that is timed, the longest first, then run until the rate is steady: on
        the longest prompt, which takes the most memory.
        """
        lengths = [len(frame_of(self._tokenizer).opened(self._tokenizer, text)) for text in self.prompts]
        for tokens in sorted(set(lengths), reverse=True):
            loaded.ready(tokens + self.new_tokens)
        return warmed(lambda: self._generate(loaded, int(np.argmax(lengths))))

    def _refuse_too_long(self) -> None:
        """Raise ModelError where a generation would go beyond a table of learned positions, and for a prompt of the
        user's own that is longer than what the model was made for.
        """
        lengths = [len(self._tokenizer.encode(prompt)) for prompt in self.prompts]
        held = learned_positions({name: self.artifact.tensor(name).shape for name in self.artifact.names})
        needed, known = max(lengths) + self.new_tokens, self.engine.capacity(self.artifact.config).positions
        if held is not None and needed > held:
            raise ModelError(
                f"T1 needs {needed} positions, {self.new_tokens} of them for new tokens, and the model has learned "
                f"{held}: it cannot be timed. Its other checks are not touched by this."
            )
        if known is not None and max(lengths) > known and tuple(self.prompts) != PROMPTS:
            raise ModelError(
                f"The prompt number {1 + int(np.argmax(lengths))} of --prompts has {max(lengths):,} tokens, and the "
                f"model was made for {known:,}. Shorten it, or leave it out."
            )

    def _generate(self, loaded: Resident, prompt: int) -> Run:
        tokenizer, prompts, new_tokens = self._tokenizer, self.prompts, self.new_tokens
        return observed(lambda: generate(loaded, tokenizer, prompts, prompt, new_tokens), self.engine, self._meter)

    def prepare(self) -> None:
        """Whatever stands before the next run: the reference's run that is left of the round before, the probe, the
        reads, and the reference's run of this round where it comes first. Loads the models where they were let go.
        """
        if self._loaded is None:
            self.start()
        self._complete()
        if self._steps is not None:
            self._steps.at(len(self.done))  # here, where nothing is timed
        self._probes.append(self._probe())
        if self.engine.backend == "cpu" and self.engine.threads is not None:
            self._processors_had.append(processors_had(self.engine.threads))
        self._read()
        if self._reference_loaded is not None:
            self._reference_read_rates.append(self._reading(self._reference_loaded))
            if reference_first(self.seed, len(self.done) + 1)[-1]:
                self._run_reference()

    def _complete(self) -> None:
        """The reference's run of a round in which it comes second."""
        if self._reference_loaded is not None and len(self.reference_done) < len(self.done):
            self._run_reference()

    def _run_reference(self) -> None:
        assert self._reference_loaded is not None
        prompt = len(self.reference_done) % len(self.prompts)
        self.reference_done.append(self._generate(self._reference_loaded, prompt))

    def run(self) -> Run:
        """The next run, prepared if it was not."""
        if self._loaded is None or len(self._probes) == len(self.done):
            self.prepare()
        assert self._loaded is not None
        self.done.append(self._generate(self._loaded, len(self.done) % len(self.prompts)))
        return self.done[-1]

    def finish(self, items: int | None = None) -> ThroughputSamples:
        """Whatever runs are left, or are missing for so many, then the samples; the models are let go."""
        self.runs = max(self.runs, runs_for(items or 0, len(self.prompts)))
        if self._loaded is None:
            self.start()
        while len(self.done) < self.rounds:
            self.prepare()
            self.run()
        self._complete()
        assert self._loaded is not None
        assert self._memory is not None
        loaded, told = self._loaded, accelerator(self.engine.backend)
        read, kernels, step = loaded.bytes_per_token, dict(loaded.kernels), loaded.step
        beside = None if self._reference_loaded is None else self._reference_loaded.bytes_per_token
        self._read()
        self.let_go()
        return ThroughputSamples(
            prompts=tuple(self.prompts),
            warm_ups=self._warm_ups,
            reference_warm_ups=self._reference_warm_ups,
            runs=tuple(self.done),
            reference_runs=tuple(self.reference_done),
            seed=self.seed,
            reference_first=reference_first(self.seed, len(self.reference_done)),
            probes_per_second=(*self._probes, self._probe()),
            load_seconds=self._load_seconds,
            memory=self._memory,
            activations=loaded.activations,
            dense_layers=loaded.dense_layers,
            threads=self.engine.threads,
            energy_of="" if self._meter is None else self._meter.of,
            accelerator=told,
            bytes_per_token=read,
            kernels=kernels,
            step=step,
            read_rates=tuple(self._read_rates),
            reference_bytes_per_token=beside,
            reference_read_rates=tuple(self._reference_read_rates),
            processors_had=tuple(self._processors_had),
        )

    def _read(self) -> None:
        assert self._loaded is not None
        self._read_rates.append(self._reading(self._loaded))

    def _reading(self, model: Resident) -> float:
        """How fast the machine reads as many bytes as a step of the model does, right now."""
        return self.engine.read_bytes_per_second(model.bytes_per_token)

    def _probe(self) -> float:
        """What a fixed matrix product tells of the machine's own speed now."""
        return self.engine.products_per_second(PROBE_SIDE, PROBES)

    def let_go(self) -> None:
        """Drop the models."""
        self._loaded = self._reference_loaded = None
        if self._steps is not None:
            self._steps.end()
        self.engine.release()
