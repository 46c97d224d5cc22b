"""T2 and T3 of several cells of one model, along one walk.

Which cells a session will ask for is known before the first is measured (`Source.expected`): the first that is asked
for its losses or its answers takes along all that lack the same. What one cell gets does not depend on the others, to
the last bit. A cell that cannot be measured (its compression fails, its numbers end) is left out, and whoever asks for
it is told why.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from pytest_quantbench.artifacts import Artifact
from pytest_quantbench.branches import Batch, behind_each_other
from pytest_quantbench.compress import compress
from pytest_quantbench.errors import QuantbenchError, WeightError
from pytest_quantbench.machine import backend
from pytest_quantbench.measures import perplexity
from pytest_quantbench.reading import Script
from pytest_quantbench.recipes import Recipe
from pytest_quantbench.samples import AccuracySamples, PerplexitySamples
from pytest_quantbench.source import Source
from pytest_quantbench.stream import Rounded, Walk

if TYPE_CHECKING:
    from pytest_quantbench.asking import Asked

T2, T3 = "perplexity_samples", "accuracy_samples"
CHECKED = {T2: "perplexity", T3: "accuracy"}  # by which checks they are judged
SHOWN = {T2: "T2", T3: "T3"}


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
        calibration = None if settings.calibration == "none" else lambda: self.source.calibration
        return compress(self.source.checkpoint, self.recipe, settings.seed, settings.cache, calibration)

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

    def taken(self, name: str) -> bool:
        """Whether samples of this name (`perplexity_samples`, …) have been measured in this session."""
        return name in self.__dict__


class _Shared:
    """One walk that several cells share."""

    def __init__(self, source: Source, cells: Sequence[Walked]) -> None:
        self._source = source
        self._cells = cells
        tracks = [Rounded(each.artifact) if each.rounding else each.artifact for each in cells]
        self.walk = Walk(*tracks, host=backend() == "cpu", memory_bytes=source.settings.memory_bytes)
        self._seconds_per_token = 0.0  # of one cell

    def run(self, what: str, *parts: Sequence[Batch | mx.array]) -> None:
        """Carry the batches through all layers."""
        recipes = ", ".join(dict.fromkeys(each.recipe.id for each in self._cells))
        began = time.perf_counter()
        try:
            self.walk.run(behind_each_other(*parts), f"{what} {self._source.model.name} {recipes}")
        except WeightError:
            return  # all have failed, and each is told when its logits are asked for
        tokens = sum(batch.tokens.size for batch in self.walk.batches)
        self._seconds_per_token = (time.perf_counter() - began) / len(self._cells) / max(1, tokens)

    def keep_losses(self, script: Script) -> None:
        """T2 of every cell, from the first batches, behind what was scored before."""
        for track, each in enumerate(self._cells):
            with _told(each, T2):
                each.perplexity_samples = perplexity.score(
                    script,
                    self.walk,
                    track=track,
                    before=each.perplexity_samples if script.there else None,
                    reference=None if each.paired is None else each.paired.perplexity_samples,
                    seconds=self._seconds(0, len(script.open)),
                )

    def keep_answers(self, asked: "Asked", first: int = 0, added_to: str | None = None) -> None:
        """T3 of every cell, from the batches from `first` on; behind the answers to one task, if that is named."""
        from pytest_quantbench.measures import accuracy  # lm-eval takes seconds to import

        walked = self._seconds(first, len(self.walk.batches))
        for track, each in enumerate(self._cells):
            with _told(each, T3):
                found = accuracy.answer(
                    asked, each.artifact, self.walk, track=track, first=first, rounding=each.rounding
                )
                found = replace(found, seconds=found.seconds + walked)
                each.accuracy_samples = found if added_to is None else each.accuracy_samples.joined(added_to, found)

    def _seconds(self, first: int, stop: int) -> float:
        """A cell's share of the time that some of the batches took."""
        return self._seconds_per_token * sum(batch.tokens.size for batch in self.walk.batches[first:stop])


@contextmanager
def _told(cell: Walked, name: str) -> Iterator[None]:
    """Keep why a cell has no samples."""
    try:
        yield
    except WeightError as error:
        cell.failed[name] = WeightError(f"{cell.source.model.name} at {cell.recipe.id}: {error}")


def _taken(cell: Walked, name: str) -> Any:
    """Measure T2 or T3 of a cell, and with it all that expected cells lack; those that lack the same share a walk.

    Raises what kept the cell from being measured, now or before.
    """
    wanted = {each: set(names) for each, names in cell.source.expected.items()}
    for each in (cell, cell.paired):
        if each is not None:
            wanted.setdefault(each, set()).add(name)
    lacking: dict[tuple[str, ...], list[Walked]] = {}
    for each in sorted(wanted, key=lambda each: each.paired is not None):  # references first: others need theirs
        missing = [part for part in (T2, T3) if part in wanted[each] and not each.taken(part) | (part in each.failed)]
        lacking.setdefault(tuple(missing), []).append(each)
    for parts, cells in lacking.items():
        _measure(cell, name, [part for part in parts if _can_be_asked(cell.source, part, name)], cells)
    if name in cell.failed:
        raise cell.failed[name]
    return cell.__dict__[name]


def _can_be_asked(source: Source, part: str, name: str) -> bool:
    """Whether there is a text, or questions. What keeps us from `name` is raised now, the rest when it is asked for."""
    try:
        _ = source.script() if part == T2 else source.questions(source.tasks, source.settings.limit)
    except QuantbenchError:
        if part == name:
            raise
        return False
    return True


def _measure(asked: Walked, name: str, parts: Sequence[str], cells: Sequence[Walked]) -> None:
    """Take T2 and T3, or one of them, of cells that have neither."""
    ready = [each for each in cells if _is_ready(each, parts, asked)]
    if not parts or not ready:
        return
    source, shared = asked.source, _Shared(asked.source, ready)
    script = source.script() if T2 in parts else None
    asked_of_all = source.questions(source.tasks, source.settings.limit) if T3 in parts else None
    windows = script.batches() if script else []
    shared.run(
        "+".join(SHOWN[part] for part in parts), windows, asked_of_all.choices.plan.batches if asked_of_all else []
    )
    if script is not None:
        shared.keep_losses(script)
    if asked_of_all is not None:
        shared.keep_answers(asked_of_all, first=len(windows))


def _is_ready(each: Walked, parts: Sequence[str], asked: Walked) -> bool:
    """Whether a cell can be measured. What keeps `asked` from it is raised now, others are told when they ask."""
    try:
        if T2 in parts and each.artifact.manifest.calibration:
            each.source.refuse_fitted_text()
        return bool(each.artifact.names)
    except QuantbenchError:
        if each in (asked, asked.paired):
            raise
        return False


def grow_tokens(cells: Sequence[Walked], tokens: int) -> int:
    """See to it that T2 has so many tokens of each cell, as far as the corpus has them; returns how many all have."""
    source = cells[0].source
    for there, short in _by_size({each: len(each.perplexity_samples.nll_nats) for each in cells}):
        script = source.script(tokens, there)
        if script.wanted <= short[0].perplexity_samples.text_tokens:
            continue
        if script.open:
            shared = _Shared(source, short)
            shared.run("T2", script.batches())
            shared.keep_losses(script)
        else:  # what is left of the text cannot be scored
            for each in short:
                each.perplexity_samples = replace(each.perplexity_samples, text_tokens=script.wanted)
    _raise_failed(cells, T2)
    return min(each.perplexity_samples.text_tokens for each in cells)


def grow_questions(cells: Sequence[Walked], questions: int) -> int:
    """See to it that so many questions of the first task are answered, as far as it has them; returns how many are."""
    source, name = cells[0].source, next(iter(cells[0].accuracy_samples.tasks))
    for start, short in _by_size({each: len(each.accuracy_samples.tasks[name].ids) for each in cells}):
        if start < min(questions, short[0].accuracy_samples.available[name]):
            asked, shared = source.questions(source.tasks[:1], questions, start), _Shared(source, short)
            shared.run("T3", asked.choices.plan.batches)
            shared.keep_answers(asked, added_to=name)
    _raise_failed(cells, T3)
    return min(len(each.accuracy_samples.tasks[name].ids) for each in cells)


def _by_size(sizes: Mapping[Walked, int]) -> Iterator[tuple[int, list[Walked]]]:
    """Cells that have the same number of samples, in the order given: others are compared with the first."""
    for size in dict.fromkeys(sizes.values()):
        yield size, [each for each, own in sizes.items() if own == size]


def _raise_failed(cells: Sequence[Walked], name: str) -> None:
    for each in cells:
        if name in each.failed:
            raise each.failed[name]
