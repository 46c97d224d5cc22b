"""One cell from start to finish: artifact → measures → judge → record. No pytest in here.

A `Subject` is a model that was fetched; its `cell(recipe)` compresses when first asked for a measure. Samples are
taken once per session and kept, so the reference is measured once for all recipes of a model.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec

from pytest_quantbench.bench import cell_record
from pytest_quantbench.bench.calibration_check import calibration_perplexity
from pytest_quantbench.bench.checks import decide
from pytest_quantbench.bench.inputs import Source
from pytest_quantbench.bench.noise_floor import Floor
from pytest_quantbench.bench.schedule import CHECKED
from pytest_quantbench.bench.shared_walk import T2, T3
from pytest_quantbench.bench.timing import Measured
from pytest_quantbench.catalog.criteria import METRICS, limit_for, metric_of
from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import REFERENCE, Recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.compress.manifest import save_manifest
from pytest_quantbench.errors import ComparisonError
from pytest_quantbench.fetch.download import delete_weights
from pytest_quantbench.fetch.evicted import delete
from pytest_quantbench.judge import rules
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.measures.samples import WeightSamples
from pytest_quantbench.record.schema import NoiseFloor, Record

SAMPLES = ("throughput_samples", T2, T3, "weight_samples")


class Subject(Source):
    """A model and its cells."""

    def __init__(self, model: Model, settings: Settings) -> None:
        super().__init__(model, settings)
        self._cells: dict[str, Cell] = {}

    @property
    def reference(self) -> "Cell":
        """The model's bf16 cell."""
        return self.cell(REFERENCE)

    def cell(self, chosen: Recipe) -> "Cell":
        """The cell of one recipe, the same object every time."""
        return self._cells.setdefault(chosen.id, Cell(self, chosen))

    def expect(self, wanted: Sequence[tuple[Recipe, str]]) -> None:
        """Say for which samples of which recipes this session will ask: they are taken along one walk."""
        for chosen, name in wanted:
            cell = self.cell(chosen)
            needed: list[Measured] = [self.reference, cell]
            if cell.limit(metric_of(CHECKED[name])) is not None:
                needed.append(self.reference.floor.rounded)
            for each in needed:
                self.expected.setdefault(each, set()).add(name)

    def delete_weights(self) -> int:
        """Delete the BF16 weights that this run fetched, where the disk plan says so; returns how many bytes."""
        settings = self.settings
        if settings.disk_plan.keeps_bf16:
            return 0
        if "opened" not in self.__dict__:
            return delete_weights(self.model.source)  # of a model that could not be opened
        commit = self.checkpoint.revision
        if commit is None or not self.checkpoint.is_here:
            return 0
        save_manifest(settings.cache, self.reference.artifact.manifest)
        self.opened.let_go()
        return delete(settings.cache, self.model.source, commit, self.checkpoint)

    def refuse_identical(self, cell: "Cell") -> None:
        """Raise ComparisonError if another width's T2 gave the very losses of this cell: weights were mixed up."""
        for other in self._cells.values():
            if other.recipe.bits != cell.recipe.bits and other.taken("perplexity_samples"):
                rules.refuse_identical(cell.id, cell.perplexity_samples, other.id, other.perplexity_samples)


class Cell(Measured):
    """One model × one recipe: samples when first asked for, verdicts from samples, a record of what was measured."""

    def __init__(self, subject: Subject, chosen: Recipe) -> None:
        super().__init__(subject, chosen)
        self.subject = subject
        self.verdicts: dict[tuple[str, str, float | None], Verdict] = {}  # by their criterion
        self._saved: tuple[list[object], NoiseFloor | None] = [], None
        self._deadline_seconds: float | None = None

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
    def weight_samples(self) -> WeightSamples:
        """Every encoded matrix against the original."""
        self.integrity.settle()
        return self.weight_samples_against(self.reference)

    @property
    def paired(self) -> "Cell | None":
        """The reference, for every other recipe."""
        return None if self.is_reference else self.reference

    @cached_property
    def floor(self) -> Floor:
        """What the reference itself differs by under an arithmetic that should not matter."""
        return Floor(self, Measured(self.subject, self.recipe, paired=self, rounding=True))

    @cached_property
    def calibration_perplexity(self) -> float | None:
        """Of the reference on the text that this cell was calibrated on; None without one."""
        return calibration_perplexity(self)

    def limit(self, metric: str) -> float | None:
        """The limit that this cell is judged by, None for informational."""
        settings = self.subject.settings
        return limit_for(metric, self.subject.model.name, self.recipe.id, self.recipe.level, settings.criteria)

    def judge(self, check: str, limit: float | None = None) -> Verdict:
        """The verdict of one check: `size`, `perplexity`, `accuracy` or `throughput`; a `limit` is judged by instead of
        the cell's criterion, and stands in the record beside it. What failed once stays failed there.

        Raises ComparisonError where samples may not be compared, T2 and T3 saw different weights, or the limit is
        below the noise floor, UnknownNameError for a check that does not exist.
        """
        own = self.limit(metric_of(check))
        verdict = self._verdict(check, own if limit is None else limit, self._deadline())
        verdict = replace(verdict, given=limit not in (None, own))
        before = self.verdicts.get(verdict.criterion)
        if before is None or before.outcome != "fail":
            self.verdicts[verdict.criterion] = verdict
        self.weights_sha256()  # one and the same model in T2 and T3, or an error
        if check in CHECKED.values() or not self.source.expected.get(self):  # else a walk is still to come
            self.integrity.settle()
        if check == "throughput" and self.taken("throughput_session"):
            self.throughput_session.let_go()  # runs after `finish` load the model again
        return verdict

    def _verdict(self, check: str, limit: float | None, deadline_seconds: float | None) -> Verdict:
        if check == "size":
            return rules.judge_size(self.size_samples, limit)
        if check == "perplexity":
            _ = self.perplexity_samples  # what keeps it from being measured is told before anything else
            self.source.refuse_unreadable_text(self.reference.perplexity_samples)
            _ = self.calibration_perplexity  # a text of another kind is warned of
        if self.is_reference:
            getattr(self, f"{check}_samples")
            return rules.informational(
                metric_of(check), "this is the reference that the other recipes are compared with"
            )
        if check == "perplexity":
            self.subject.refuse_identical(self)
        if limit is not None:
            self.reference.floor.refuse_tighter(METRICS[metric_of(check)], limit)
        return decide(check, self, self.reference, limit, self.subject.settings, deadline_seconds)

    def _deadline(self) -> float | None:
        """When the cell's time is up, by `time.monotonic()`: the clock starts with its first check."""
        budget = self.subject.settings.time_budget_seconds
        if budget is not None and self._deadline_seconds is None:
            self._deadline_seconds = time.monotonic() + budget
        return self._deadline_seconds

    @property
    def unsaved(self) -> bool:
        """Whether anything was measured or judged since the record was last written."""
        objects, figures = self._content()
        saved, saved_figures = self._saved
        same = len(objects) == len(saved) and all(a is b for a, b in zip(objects, saved, strict=True))
        return not same or figures != saved_figures

    def saved(self) -> None:
        """Say that the record has been written as it is now."""
        self._saved = self._content()

    def _content(self) -> tuple[list[object], NoiseFloor | None]:
        """What a record is made of; samples that grew are other objects than before."""
        samples = [self.__dict__[name] for name in SAMPLES if self.taken(name)]
        samples += [self.integrity.found] if self.taken("integrity") and self.integrity.found else []
        floor = self.floor.figures() if self.taken("floor") else None
        return [*samples, *self.verdicts.values()], None if floor == NoiseFloor.nothing() else floor

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
        return cell_record.summarize(self)

    def figures(self, part: str) -> dict[str, Any]:
        """One part of the record, such as `throughput`, as plain JSON values; empty if it was not measured."""
        return dict(msgspec.to_builtins(getattr(self.record(), part)) or {})

    def raw(self) -> dict[str, Any]:
        """The raw samples that this session measured, as named arrays: `part/name`."""
        return cell_record.raw(self)
