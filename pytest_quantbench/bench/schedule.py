"""T2 and T3 of several cells of one model, along one walk.

Which cells a session will ask for is known before the first is measured (`Source.expected`): the first that is asked
for its losses or its answers takes along all that lack the same. What one cell gets does not depend on the others, to
the last bit; what a check adds later is scored in other windows and batches, which is the same to rounding. A cell that
cannot be measured (its compression fails, its numbers end) is left out, and whoever asks for it is told why.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from pytest_quantbench.bench.inputs import Source
from pytest_quantbench.bench.shared_walk import SHOWN, T2, T3, Shared, alone, first_work, refuse_unwalkable
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.pipeline import compress, key_of, used_calibration
from pytest_quantbench.engines.machine import describe
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.measures.integrity.inspection import Integrity
from pytest_quantbench.measures.samples import AccuracySamples, PerplexitySamples
from pytest_quantbench.storage.samples_cache import Memory

CHECKED = {T2: "perplexity", T3: "accuracy"}  # by which checks they are judged
KINDS: Mapping[str, Any] = {T2: PerplexitySamples, T3: AccuracySamples}


class Walked:
    """One model × one recipe, compressed when first measured. `rounding` rounds activations to bfloat16 (see Walk);
    `paired` is the reference that T2's distributions are compared with, for all but the reference itself.
    """

    def __init__(
        self, source: Source, recipe: Recipe, *, paired: "Walked | None" = None, rounding: bool = False
    ) -> None:
        self.source = source
        self.recipe = recipe
        self.rounding = rounding
        self.failed: dict[str, QuantbenchError] = {}  # what kept samples from being measured, by their name
        self._paired = paired

    @property
    def paired(self) -> "Walked | None":
        """The reference."""
        return self._paired

    @cached_property
    def artifact(self) -> Artifact:
        """The compressed model, found in the cache or made."""
        if self.rounding and self.paired is not None and self.paired.recipe == self.recipe:
            return self.paired.artifact  # a walk reads the weights of both once
        settings = self.source.settings
        return compress(
            self.source.opened,
            self.recipe,
            settings.seed,
            settings.cache,
            self._calibration,
            stored=settings.writes.stores,
            memory_bytes=settings.memory_bytes,
        )

    @property
    def _calibration(self) -> Callable[[], CalibrationSet] | None:
        return None if self.source.settings.calibration == "none" else lambda: self.source.calibration

    @property
    def artifact_key(self) -> str:
        """The artifact's, known before it is made."""
        return key_of(self.source.opened, self.recipe, self.source.settings.seed, self.calibrated_by)

    @property
    def calibrated_by(self) -> CalibrationSet | None:
        """The text that the recipe is fitted to, if it is."""
        return used_calibration(self.recipe, self._calibration)

    @cached_property
    def memory(self) -> Memory:
        """What earlier sessions have measured of these weights, with these libraries, on such a machine."""
        subject = {
            "artifact": self.artifact_key,
            "rounding": self.rounding,
            "machine": msgspec.to_builtins(describe(self.source.engine)),
        }
        return Memory(self.source.settings.cache, subject, fresh=self.source.settings.fresh)

    @cached_property
    def perplexity_samples(self) -> PerplexitySamples:
        """T2's samples: of `--tokens` tokens, or of more after `grow_tokens`."""
        found: PerplexitySamples = _taken(self, T2)
        return found

    @cached_property
    def accuracy_samples(self) -> AccuracySamples:
        """T3's samples: of `--limit` questions of every task, or of more of the first after `grow_questions`."""
        found: AccuracySamples = _taken(self, T3)
        return found

    @cached_property
    def integrity(self) -> Integrity:
        """Whether the decoded weights are the source's. Of a reference, which is not decoded, nothing is asked."""
        nothing = self.rounding or self.recipe.is_identity
        return Integrity(None if nothing else self.artifact, self.source.opened, self.memory)

    def taken(self, name: str) -> bool:
        """Whether samples of this name (`perplexity_samples`, …) have been measured in this session."""
        return name in self.__dict__


def _taken(cell: Walked, name: str) -> Any:
    """Measure T2 or T3 of a cell, and with it all that expected cells lack; those that lack the same share a walk.

    Raises what kept the cell from being measured, now or before.
    """
    source = cell.source
    wanted = {each: set(names) for each, names in source.expected.items()}
    for each in (cell, cell.paired):
        if each is not None:
            wanted.setdefault(each, set()).add(name)
    cells = sorted(wanted, key=lambda each: each.paired is not None)  # references first: others need theirs
    parts = [part for part in (T2, T3) if any(part in names for names in wanted.values())]
    parts = [part for part in parts if _can_be_asked(source, part, name)]
    wants = {each: [part for part in parts if part in names] for each, names in wanted.items()}
    # What has to be compressed is compressed before others are kept waiting.
    possible = {each: _possible(each, [part for part in wants[each] if not _is_there(each, part)]) for each in cells}
    with alone([(each, part) for each in cells for part in possible[each]]):
        lacking: dict[tuple[str, ...], list[Walked]] = {}
        for each in cells:
            missing = tuple(part for part in possible[each] if not _is_there(each, part))
            lacking.setdefault(missing, []).append(each)
        for missing_parts, together in lacking.items():
            if missing_parts:
                _measure(source, missing_parts, together)
    if name in cell.failed:
        raise cell.failed[name]
    return cell.__dict__[name]


def _is_there(cell: Walked, part: str) -> bool:
    """Whether a cell has first samples, or has been told why not; those of an earlier session are taken."""
    if cell.taken(part) or part in cell.failed:
        return True
    try:
        return recalled(cell, part, first_work(cell, part))
    except QuantbenchError:
        return False  # it cannot be compressed, which is told when it is tried


def recalled(cell: Walked, part: str, work: Mapping[str, Any]) -> bool:
    """Whether samples of this work are in the cache, in which case the cell has them from there."""
    found = cell.memory.recall(part, work, KINDS[part])
    if found is not None:
        setattr(cell, part, found)
        cell.source.reused.append(f"{SHOWN[part]} of {cell.source.model.name}-{cell.recipe.id}")
    return found is not None


def _can_be_asked(source: Source, part: str, name: str) -> bool:
    """Whether there is a text, or questions. What keeps us from `name` is raised now, the rest when it is asked for."""
    try:
        _ = source.script() if part == T2 else source.questions(source.tasks, source.settings.limit)
    except QuantbenchError:
        if part == name:
            raise
        return False
    return True


def _possible(cell: Walked, missing: Sequence[str]) -> tuple[str, ...]:
    """What of it can be measured. What keeps a cell from the rest is kept, for whoever asks."""
    if not missing:
        return ()
    try:
        _ = cell.artifact
    except QuantbenchError as error:
        cell.failed |= dict.fromkeys(missing, error)
        return ()
    if T2 in missing and cell.calibrated_by is not None:
        try:
            cell.source.refuse_fitted_text()
        except QuantbenchError as error:
            cell.failed[T2] = error
    for part in missing:
        try:
            refuse_unwalkable(cell, part)
        except QuantbenchError as error:
            cell.failed.setdefault(part, error)
    return tuple(part for part in missing if part not in cell.failed)


def _measure(source: Source, parts: Sequence[str], cells: Sequence[Walked]) -> None:
    """Take T2 and T3, or one of them, of cells that have neither."""
    shared = Shared(source, cells)
    script = source.script() if T2 in parts else None
    asked = source.questions(source.tasks, source.settings.limit) if T3 in parts else None
    windows = script.batches() if script else []
    shared.run(
        "+".join(SHOWN[part] for part in parts), windows, asked.choices.plan(shared.walk.proof).batches if asked else []
    )
    if script is not None:
        shared.keep_losses(script)
    if asked is not None:
        shared.keep_answers(asked, first=len(windows))
