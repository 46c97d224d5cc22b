"""T1: tokens per second of the resident model, through the engine's own generation.

Five prompts × runs of 256 new tokens at temperature 0. End of sequence is ignored, so that every run has the same
length; one warm-up run is stored and left out. Prefill, time to first token and the gap before every token are kept
apart. A fixed matrix product before and after shows whether the machine itself drifted.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_quantbench.catalog.corpora import NEW_TOKENS, PROMPTS
from pytest_quantbench.checkpoints.tokenizer import frame_of, load_tokenizer, refuse_unknown_tokens
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines import need, process_memory
from pytest_quantbench.engines.accelerator import accelerator
from pytest_quantbench.engines.protocol import Engine
from pytest_quantbench.engines.resident import Generator, Resident
from pytest_quantbench.errors import ModelError
from pytest_quantbench.measures.protocol import Inputs, ResidentMeasure, Trial
from pytest_quantbench.measures.throughput_samples import Run, ThroughputSamples
from pytest_quantbench.progress import Steps

PROBE_SIDE, PROBES = 512, 5
MEMORY_SHARE = 0.7  # of the memory that is left, which a reference may take beside a loaded model
TABLE = re.compile(r"(.*\.)?(wpe|(embed_)?positions?(_embeddings?)?|pos_emb(ed|edding|eddings)?)\.weight")


@dataclass(slots=True, kw_only=True)
class Session(Trial[ThroughputSamples]):
    """T1 in progress: the caller decides when each run happens, so that a benchmark fixture can time it.

    With a `reference`, `run_reference` runs the same prompt on the reference model just before, for pairing, if there
    is memory for it beside the loaded model: what the engine says is free then, whatever runs decoded.
    """

    engine: Engine
    artifact: Artifact
    tokenizer_directory: Path
    runs: int
    new_tokens: int
    reference: Artifact | None = None
    done: list[Run] = field(default_factory=list)
    reference_done: list[Run] = field(default_factory=list)

    _tokenizer: Any = None
    _loaded: Resident | None = None
    _reference_loaded: Resident | None = None
    _load_seconds: float = 0.0
    _warm_up: Run | None = None
    _first_probe: float = 0.0
    _peak_bytes: int = 0
    _process_peak: process_memory.ProcessPeak | None = None
    _is_beside: bool | None = None  # whether the reference is loaded too; decided once
    _read_rates: list[float] = field(default_factory=list)
    _reference_read_rates: list[float] = field(default_factory=list)
    _steps: Steps | None = None

    @property
    def rounds(self) -> int:
        """How many runs there are in all."""
        return self.runs * len(PROMPTS)

    def start(self) -> None:
        """Load, and run the warm-up. Raises ModelError for a tokenizer whose tokens the model does not know, and where
        prompt and new tokens are more than the model has positions.
        """
        need(self.engine, "resident")
        self._tokenizer = load_tokenizer(self.tokenizer_directory)
        opened = frame_of(self._tokenizer).opened
        known = self.engine.capacity(self.artifact.config).vocabulary
        refuse_unknown_tokens({t for text in PROMPTS for t in opened(self._tokenizer, text)}, known)
        self._refuse_too_long()
        self._first_probe = self._first_probe or self._probe()  # models may be loaded more than once
        self.engine.reset_peak()
        since = process_memory.lower_mark()
        began = time.perf_counter()
        self._loaded = self.engine.load(self.artifact, "timed")
        self._load_seconds = time.perf_counter() - began
        self._warm_up = self._generate(self._loaded, 0)
        self._peak_bytes, self._process_peak = self.engine.peak_bytes(), process_memory.peak(since)
        self._read()
        self._load_reference()
        self._steps = Steps(f"T1 of {self.artifact.recipe_id}", "run", self.rounds)
        self._steps.begin()

    def _load_reference(self) -> None:
        """Beside the model, where there is one and memory for it."""
        if self.reference is None:
            return
        if self._is_beside is None:
            self._is_beside = self.reference.manifest.stored_bytes < MEMORY_SHARE * self.engine.free_bytes()
        if self._is_beside:
            self._reference_loaded = self.engine.load(self.reference, "timed")
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

    def _generate(self, loaded: Resident, prompt: int) -> Run:
        return generate(loaded, self._tokenizer, prompt, self.new_tokens)

    def run_reference(self) -> None:
        """Progress, and the next run's prompt on the reference, if there is one. Loads the models where they were let
        go.
        """
        if self._loaded is None:
            self.start()
        if self._steps is not None:
            self._steps.at(len(self.done))  # here, where nothing is timed
        self._read()
        if self._reference_loaded is not None:
            prompt = len(self.done) % len(PROMPTS)
            self._reference_read_rates.append(self._reading(self._reference_loaded))
            self.reference_done.append(self._generate(self._reference_loaded, prompt))

    def run(self) -> Run:
        """The next run. Loads the models where they were let go, as `finish` does."""
        if self._loaded is None:
            self.start()
        assert self._loaded is not None
        self.done.append(self._generate(self._loaded, len(self.done) % len(PROMPTS)))
        return self.done[-1]

    def finish(self, items: int | None = None) -> ThroughputSamples:
        """Whatever runs are left, or are missing for so many, then the samples; the models are let go."""
        self.runs = max(self.runs, runs_for(items or 0))
        while len(self.done) < self.rounds:
            self.run_reference()
            self.run()
        assert self._loaded is not None
        assert self._warm_up is not None
        loaded, told = self._loaded, accelerator(self.engine.backend)
        read, kernels, step = loaded.bytes_per_token, dict(loaded.kernels), loaded.step
        beside = None if self._reference_loaded is None else self._reference_loaded.bytes_per_token
        self._read()
        self.let_go()
        return ThroughputSamples(
            warm_up=self._warm_up,
            runs=tuple(self.done),
            reference_runs=tuple(self.reference_done),
            probes_per_second=(self._first_probe, self._probe()),
            load_seconds=self._load_seconds,
            peak_bytes=self._peak_bytes,
            activations=loaded.activations,
            dense_layers=loaded.dense_layers,
            process_peak=self._process_peak,
            accelerator=told,
            bytes_per_token=read,
            kernels=kernels,
            step=step,
            read_rates=tuple(self._read_rates),
            reference_bytes_per_token=beside,
            reference_read_rates=tuple(self._reference_read_rates),
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


def runs_for(items: int) -> int:
    """How many runs of every prompt make so many runs in all."""
    return -(-items // len(PROMPTS))


def generate(model: Generator, tokenizer: Any, prompt: int, new_tokens: int) -> Run:
    """One greedy generation of exactly `new_tokens` tokens from PROMPTS[prompt], timed token by token."""
    ids = frame_of(tokenizer).opened(tokenizer, PROMPTS[prompt])
    found = model.timed(ids, new_tokens)
    return Run.of(prompt, len(ids), found, tokenizer.decode(found.tokens))


def learned_positions(shapes: Mapping[str, Sequence[int]]) -> int | None:
    """How many positions the model has learned embeddings of, by its parameters' shapes; None where it has none.

    Nothing stands behind that table: an engine that reads there computes with whatever lies in memory.
    """
    return min((int(shape[0]) for name, shape in shapes.items() if TABLE.fullmatch(name)), default=None)


class Throughput(ResidentMeasure[ThroughputSamples]):
    """T1 as a measure: its items are runs over all prompts."""

    name, label, version = "throughput", "T1", 4
    samples = ThroughputSamples
    new_tokens = NEW_TOKENS

    def work(self, inputs: Inputs, items: int | None) -> Mapping[str, Any]:
        """The runs, and whether loading takes longer because it encodes."""
        return {
            "version": self.version,
            "runs": self.runs(inputs, items),
            "prompts": PROMPTS,
            "new_tokens": self.new_tokens,
            "stored": inputs.settings.writes.stores,
        }

    def lacks(self, inputs: Inputs, items: int | None, before: ThroughputSamples) -> bool:
        """Whether there are fewer runs over all prompts."""
        return items is not None and len(before.runs) < items

    def runs(self, inputs: Inputs, items: int | None) -> int:
        """How many runs of every prompt make so many items."""
        return inputs.settings.runs if items is None else runs_for(items)

    def trial(self, artifact: Artifact, reference: Artifact | None, inputs: Inputs) -> Session:
        """A session over the prompts, whose runs are interleaved with the reference's where there is one."""
        return Session(
            engine=inputs.engine,
            artifact=artifact,
            tokenizer_directory=inputs.checkpoint.directory,
            runs=inputs.settings.runs,
            new_tokens=self.new_tokens,
            reference=reference,
        )


THROUGHPUT = Throughput()
