"""One walk that several cells share, and what becomes of it: their losses, their answers, kept for later sessions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_quantbench.bench import measuring_locks
from pytest_quantbench.bench.inputs import Source
from pytest_quantbench.engines.batches import Batch, Ids, behind_each_other
from pytest_quantbench.engines.protocol import Rounded
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.measures.perplexity import score as perplexity
from pytest_quantbench.measures.perplexity.reading import Script
from pytest_quantbench.measures.samples import AccuracySamples

if TYPE_CHECKING:
    from pytest_quantbench.bench.schedule import Walked
    from pytest_quantbench.measures.accuracy.task_set import Asked

T2, T3 = "perplexity_samples", "accuracy_samples"
SHOWN = {T2: "T2", T3: "T3"}
VERSIONS = {T2: 2, T3: 3}  # raised when a measure gives other samples for the same work
Work = Callable[["Walked", str], Mapping[str, Any]]  # of a cell and T2 or T3: all that its samples depend on


def refuse_unwalkable(cell: Walked, part: str) -> None:
    """Raise ModelError for an architecture whose walk is not its forward pass; T2 and T3 each for itself. It is tried
    in small when this is first asked.
    """
    source, proof = cell.source, cell.source.engine.prove(cell.artifact)
    proof.refuse(())
    if part == T3:
        source.questions(source.tasks, source.settings.limit).choices.plan(proof)


class Shared:
    """One walk that several cells share."""

    def __init__(self, source: Source, cells: Sequence[Walked]) -> None:
        self._source = source
        self._cells = cells
        self._inspected = {each: found for each in cells if (found := each.integrity.pending()) is not None}
        tracks = [
            Rounded(each.artifact) if each.rounding else self._inspected.get(each, each.artifact) for each in cells
        ]
        self.walk = source.engine.walk(tracks, memory_bytes=source.settings.memory_bytes)
        self._seconds_per_token = 0.0  # of one cell

    def run(self, what: str, *parts: Sequence[Batch | Ids]) -> None:
        """Carry the batches through all layers."""
        recipes = ", ".join(dict.fromkeys(each.recipe.id for each in self._cells))
        began = time.perf_counter()
        try:
            self.walk.run(behind_each_other(*parts), f"{what} {self._source.model.name} {recipes}")
        except QuantbenchError:
            return  # all have failed, and each is told when its logits are asked for
        for each, inspected in self._inspected.items():
            with _told(each, "integrity"):
                each.integrity.keep(inspected.finish())
        tokens = sum(batch.tokens.size for batch in self.walk.batches)
        self._seconds_per_token = (time.perf_counter() - began) / len(self._cells) / max(1, tokens)

    def keep_losses(self, script: Script) -> None:
        """T2 of every cell, from the first batches, behind what was scored before."""
        for track, each in enumerate(self._cells):
            with _told(each, T2):
                if each.paired is not None and T2 in each.paired.failed:  # there is nothing to compare with
                    raise each.paired.failed[T2]
                each.perplexity_samples = perplexity.score(
                    script,
                    self.walk,
                    track=track,
                    before=each.perplexity_samples if script.there else None,
                    reference=None if each.paired is None else each.paired.perplexity_samples,
                    seconds=self._seconds(0, len(script)),
                )
                each.memory.keep(T2, reading(each, script), each.perplexity_samples)

    def keep_answers(self, asked: Asked, first: int = 0, added_to: str | None = None) -> None:
        """T3 of every cell, from the batches from `first` on; behind the answers to one task, if that is named.

        Models that write are loaded one after the other when the walk is done with.
        """
        from pytest_quantbench.measures.accuracy import score as accuracy  # lm-eval takes seconds to import

        seconds = self._seconds(first, len(self.walk.batches))
        chosen: dict[Walked, AccuracySamples] = {}
        for track, each in enumerate(self._cells):
            with _told(each, T3):
                found = accuracy.chosen(asked, self.walk, track=track, first=first)
                chosen[each] = replace(found, seconds=found.seconds + seconds)
        self.walk.let_go()
        for each, samples in chosen.items():
            with _told(each, T3):
                whole = accuracy.written(self._source.engine, asked, each.artifact, samples, rounding=each.rounding)
                each.accuracy_samples = whole if added_to is None else each.accuracy_samples.joined(added_to, whole)
                each.memory.keep(T3, asking(asked), each.accuracy_samples)

    def _seconds(self, first: int, stop: int) -> float:
        """A cell's share of the time that some of the batches took."""
        return self._seconds_per_token * sum(batch.tokens.size for batch in self.walk.batches[first:stop])


@contextmanager
def _told(cell: Walked, name: str) -> Iterator[None]:
    """Keep why a cell has no samples."""
    try:
        yield
    except QuantbenchError as error:
        told = f"{cell.source.model.name} at {cell.recipe.id}: "
        cell.failed[name] = type(error)(f"{told}{str(error).removeprefix(told)}")


def reading(cell: Walked, script: Script) -> dict[str, Any]:
    """All that T2's samples depend on besides the model: the protocol, the text, the reference's samples."""
    paired, text = cell.paired, script.tokens.text
    return {
        "version": VERSIONS[T2],
        "protocol": script.protocol,
        "text": [text.name, text.revision, text.sha256],
        "tokens": script.wanted,
        "there": script.there,
        "beside": {
            name: [other.protocol, other.tokens.text.sha256, other.wanted] for name, other in script.beside.items()
        },
        "reference": None if paired is None else paired.memory.keys.get(T2),
    }


def asking(asked: Asked) -> dict[str, Any]:
    """All that T3's samples depend on besides the model."""
    return {"version": VERSIONS[T3], "asked": asked.sha256}


def first_work(cell: Walked, part: str) -> Mapping[str, Any]:
    """What the first samples depend on."""
    source = cell.source
    if part == T2:
        return reading(cell, source.script())
    return asking(source.questions(source.tasks, source.settings.limit))


def alone(absent: Sequence[tuple[Walked, str]], work: Work = first_work) -> AbstractContextManager[None]:
    """Wait until no other session takes these samples; for the reference's only where nothing else is wanted."""
    wanted: dict[str, Mapping[str, Any]] = {}
    references: set[str] = set()
    for each, part in absent:
        with suppress(QuantbenchError):  # it cannot be compressed, which is told when it is tried
            told = {name: value for name, value in work(each, part).items() if name != "reference"}
            content = {"of": part, "artifact": each.artifact_key, "rounding": each.rounding, "work": told}
            doing = f"measuring {SHOWN[part]} of {each.source.model.name}-{each.recipe.id}"
            doing += " with rounded activations" if each.rounding else ""
            wanted[doing] = content
            references |= {doing} if each.recipe.is_identity else set()
    along = references if references < wanted.keys() else set()
    return measuring_locks.alone(absent[0][0].source.settings.cache if absent else Path(), wanted, along)
