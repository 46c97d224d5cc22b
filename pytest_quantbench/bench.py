"""One cell from start to finish: artifact → measures → judge → record. No pytest in here.

A `Subject` is a model that was fetched; its `cell(recipe)` compresses when first asked for a measure. Samples are
taken once per session and kept, so the reference is measured once for all recipes of a model.
"""

from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import msgspec

from pytest_quantbench import judge, parts
from pytest_quantbench.artifacts import Artifact
from pytest_quantbench.catalog import NEW_TOKENS, Model, metric_of
from pytest_quantbench.compress import compress
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.machine import backend, describe, memory_bytes
from pytest_quantbench.measures import perplexity, throughput, weights
from pytest_quantbench.recipes import Recipe, recipe
from pytest_quantbench.record import SCHEMA, Record, Verdict
from pytest_quantbench.samples import (
    AccuracySamples,
    PerplexitySamples,
    SizeSamples,
    ThroughputSamples,
    WeightSamples,
)
from pytest_quantbench.settings import Settings, limit_for
from pytest_quantbench.source import Source

SAMPLES = ("throughput_samples", "perplexity_samples", "accuracy_samples", "weight_samples")
MEMORY_SHARE = 0.7  # of physical memory that two resident models may take together


class Subject(Source):
    """A model and its cells."""

    def __init__(self, model: Model, settings: Settings) -> None:
        super().__init__(model, settings)
        self._cells: dict[str, Cell] = {}

    @property
    def reference(self) -> "Cell":
        """The model's bf16 cell."""
        return self.cell(recipe("bf16", []))

    def cell(self, chosen: Recipe) -> "Cell":
        """The cell of one recipe, the same object every time."""
        return self._cells.setdefault(chosen.id, Cell(self, chosen))


class Cell:
    """One model × one recipe: samples when first asked for, verdicts from samples, a record of what was measured."""

    def __init__(self, subject: Subject, chosen: Recipe) -> None:
        self.subject = subject
        self.recipe = chosen
        self.verdicts: dict[str, Verdict] = {}
        self._saved: tuple[object, ...] = ()
        self._host = backend() == "cpu"

    @property
    def id(self) -> str:
        """`Tiny-int4`."""
        return f"{self.subject.model.name}-{self.recipe.id}"

    @property
    def is_reference(self) -> bool:
        """Whether this is the bf16 cell."""
        return self.recipe.level == "bf16"

    @property
    def reference(self) -> "Cell":
        """The cell that this one is compared with."""
        return self.subject.reference

    @cached_property
    def artifact(self) -> Artifact:
        """The compressed model, found in the cache or made."""
        settings = self.subject.settings
        calibration = None if settings.calibration == "none" else lambda: self.subject.calibration
        return compress(self.subject.checkpoint, self.recipe, settings.seed, settings.cache, calibration)

    @cached_property
    def perplexity_samples(self) -> PerplexitySamples:
        """T2's samples, measured when first asked for."""
        subject = self.subject
        if self.artifact.manifest.calibration:
            subject.refuse_fitted_text()
        directory, tokens = subject.checkpoint.directory, subject.settings.tokens
        return perplexity.measure(self.artifact, directory, subject.text, tokens, host=self._host)

    @cached_property
    def accuracy_samples(self) -> AccuracySamples:
        """T3's samples, measured when first asked for."""
        from pytest_quantbench.measures import accuracy  # lm-eval takes seconds to import

        settings = self.subject.settings
        return accuracy.measure(
            self.artifact,
            self.subject.checkpoint.directory,
            settings.tasks or self.subject.model.tasks,
            settings.task_files,
            settings.limit,
            settings.seed,
            offline=settings.offline,
            host=self._host,
        )

    @cached_property
    def weight_samples(self) -> WeightSamples:
        """Every encoded matrix against the original."""
        return weights.measure(self.artifact, self.reference.artifact)

    @property
    def size_samples(self) -> SizeSamples:
        """Bytes as stored."""
        return weights.size(self.artifact)

    @cached_property
    def throughput_session(self) -> throughput.Session:
        """T1, started and warmed up; interleaved with the reference where T1 is judged and both fit in memory."""
        together = self.artifact.manifest.stored_bytes + self.reference.artifact.manifest.stored_bytes
        interleave = backend() != "cpu" and not self.is_reference and together < MEMORY_SHARE * memory_bytes()
        session = throughput.Session(
            artifact=self.artifact,
            tokenizer_directory=self.subject.checkpoint.directory,
            runs=self.subject.settings.runs,
            new_tokens=NEW_TOKENS,
            reference=self.reference.artifact if interleave else None,
        )
        session.start()
        return session

    @cached_property
    def throughput_samples(self) -> ThroughputSamples:
        """T1's samples: whatever runs the session has left are done now."""
        return self.throughput_session.finish()

    def limit(self, metric: str) -> float | None:
        """The limit that this cell is judged by, None for informational."""
        settings = self.subject.settings
        return limit_for(metric, self.subject.model.name, self.recipe.id, self.recipe.level, settings.criteria)

    def judge(self, check: str, limit: float | None = None) -> Verdict:
        """The verdict of one check: `size`, `perplexity`, `accuracy` or `throughput`; `limit` overrides the criterion.

        Raises ComparisonError where samples may not be compared, UnknownNameError for a check that does not exist.
        """
        metric = metric_of(check)
        self.verdicts[metric] = self._verdict(check, self.limit(metric) if limit is None else limit)
        if check == "throughput":
            self.throughput_session.let_go()  # runs after `finish` load the model again
        return self.verdicts[metric]

    def _verdict(self, check: str, limit: float | None) -> Verdict:
        if check == "size":
            return judge.judge_size(self.size_samples, limit)
        if self.is_reference:
            return self._measure_reference(check)
        if check == "perplexity":
            return judge.judge_perplexity(self.perplexity_samples, self.reference.perplexity_samples, limit)
        if check == "accuracy":
            quantized, reference = self.accuracy_samples.tasks, self.reference.accuracy_samples.tasks
            first = next(iter(quantized))
            return judge.judge_accuracy(first, quantized[first], reference[first], limit)
        applies = backend() != "cpu"
        return judge.judge_throughput(self.throughput_samples, self.reference.throughput_samples, limit, applies)

    def _measure_reference(self, check: str) -> Verdict:
        getattr(self, f"{check}_samples")
        return judge.informational(metric_of(check), "this is the reference that the other recipes are compared with")

    @property
    def unsaved(self) -> bool:
        """Whether anything was measured or judged since the record was last written."""
        return self._content() != self._saved

    def saved(self) -> None:
        """Say that the record has been written as it is now."""
        self._saved = self._content()

    def _content(self) -> tuple[object, ...]:
        return (*filter(self.taken, SAMPLES), *self.verdicts.values())

    def taken(self, name: str) -> bool:
        """Whether samples of this name (`perplexity_samples`, …) have been measured in this session."""
        return name in self.__dict__

    def weights_sha256(self) -> str | None:
        """Hash of the decoded weights that were evaluated. Raises ComparisonError if T2 and T3 saw different ones."""
        hashes = set()
        if self.taken("perplexity_samples"):
            hashes.add(self.perplexity_samples.weights_sha256)
        if self.taken("accuracy_samples"):
            hashes.add(self.accuracy_samples.weights_sha256)
        if len(hashes) > 1:
            raise ComparisonError(f"{self.id}: T2 and T3 evaluated different weights ({sorted(hashes)}).")
        return next(iter(hashes), None)

    def record(self) -> Record:
        """What this session measured of the cell. Parts that it was not asked for are null."""
        subject, source = self.subject, self.subject.checkpoint
        measured: dict[str, Any] = {}
        alone = self.is_reference
        if self.taken("throughput_samples"):
            other = None if alone else self.reference.throughput_samples
            measured["throughput"] = parts.throughput(self.throughput_samples, other)
        if self.taken("perplexity_samples"):
            tokens = None if alone else self.reference.perplexity_samples
            measured["perplexity"] = parts.perplexity(self.perplexity_samples, tokens)
        if self.taken("accuracy_samples"):
            answers = None if alone else self.reference.accuracy_samples
            measured["accuracy"] = parts.accuracy(self.accuracy_samples, answers)
        if self.taken("weight_samples"):
            measured["weights"] = parts.weights(self.weight_samples)
        return Record(
            schema=SCHEMA,
            model_id=subject.model.name,
            bits=self.recipe.bits,
            timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
            recipe=self.recipe.id,
            level=self.recipe.level,
            source="embedded" if subject.model.name == "Tiny" else subject.model.source,
            revision=source.revision,
            source_sha256=source.sha256,
            weights_sha256=self.weights_sha256(),
            seed=subject.settings.seed,
            compression=parts.compression(self.artifact.manifest),
            verdicts=tuple(self.verdicts.values()),
            machine=describe(),
            **measured,
        )

    def figures(self, part: str) -> dict[str, Any]:
        """One part of the record, such as `throughput`, as plain JSON values; empty if it was not measured."""
        return dict(msgspec.to_builtins(getattr(self.record(), part)) or {})

    def raw(self) -> dict[str, Any]:
        """The raw samples that this session measured, as named arrays: `part/name`."""
        return (
            (parts.raw_throughput(self.throughput_samples) if self.taken("throughput_samples") else {})
            | (parts.raw_perplexity(self.perplexity_samples) if self.taken("perplexity_samples") else {})
            | (parts.raw_accuracy(self.accuracy_samples) if self.taken("accuracy_samples") else {})
        )
