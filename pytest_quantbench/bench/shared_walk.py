"""One walk for several targets of one model: each decoder layer is read once, and carries all of them along.

It returns samples, or what kept a target from them, one after the other as they are there, and sets nothing. What one
target gets does not depend on the others, to the last bit.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_quantbench.bench.engagement import refuse_idle, refuse_unreached, without_cache
from pytest_quantbench.bench.target import Target
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.engines.batches import behind_each_other
from pytest_quantbench.engines.protocol import Cached, Engine, Rounded
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.measures import Measure, Share, WalkMeasure
from pytest_quantbench.measures.integrity.inspection import Inspected
from pytest_quantbench.measures.integrity.measure import INTEGRITY
from pytest_quantbench.quantizers import kv


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One target on a walk. `inspected`: its weights where they are to be looked at as they pass. By the measure's
    name: the samples that it has `before`, and those (or the error) of the reference that is not on this walk.
    """

    target: Target
    artifact: Artifact
    inspected: Inspected | None
    before: Mapping[str, Any]
    reference: Mapping[str, Any]

    @property
    def weights(self) -> Any:
        """What the walk reads."""
        if self.target.rounds:
            return Rounded(self.artifact)
        weights, cache = self.inspected or self.artifact, self.cache
        return weights if cache is None else Cached(weights, cache)

    @property
    def cache(self) -> kv.KVQuantizer | None:
        """How its keys and values are held; None: in 16 bits."""
        held = self.target.recipe.cache
        return None if held is None else kv.make(held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a measure gave of a target: its samples, or why there are none."""

    target: Target
    measure: Measure[Any]
    samples: Any = None
    error: QuantbenchError | None = None


class SharedWalk:
    """One walk, for measures with what each has to read."""

    def __init__(
        self,
        engine: Engine,
        tracks: Sequence[Track],
        shares: Sequence[tuple[WalkMeasure[Any], Share[Any]]],
        *,
        memory_bytes: int,
    ) -> None:
        self._engine, self._tracks, self._shares = engine, tracks, shares
        self._walk = engine.walk([track.weights for track in tracks], memory_bytes=memory_bytes)
        self._parts = [share.batches(self._walk.proof) for _, share in shares]
        self._done: dict[tuple[Target, str], Any] = {}  # samples or errors of this walk
        self._seconds_per_token = 0.0  # of one target

    @property
    def labels(self) -> str:
        """Of the measures, as `T2+T3`."""
        return "+".join(measure.label for measure, _ in self._shares)

    def taken(self) -> Iterator[Taken]:
        """Carry all batches through the layers, and give what came of it: of each measure the reference first."""
        yield from self._run()
        waiting: list[tuple[WalkMeasure[Any], Share[Any]]] = []
        first = 0
        for (measure, share), batches in zip(self._shares, self._parts, strict=True):
            for number, track in enumerate(self._tracks):
                taken = self._scored(measure, share, number, track, first, len(batches))
                if taken.error is not None or not share.wants_model:
                    yield taken
            waiting += [(measure, share)] if share.wants_model else []
            first += len(batches)
        self._walk.let_go()
        for measure, share in waiting:
            yield from self._finished(measure, share)

    def _run(self) -> Iterator[Taken]:
        """The walk itself, and what was found in the weights meanwhile."""
        recipes = list(dict.fromkeys(track.target.recipe.id for track in self._tracks))
        told = recipes[0] if len(recipes) == 1 else f"{len(recipes)} recipes"
        began = time.perf_counter()
        try:
            model = self._tracks[0].target.model.name
            self._walk.run(behind_each_other(*self._parts), f"{self.labels} of {model}, {told}")
        except QuantbenchError:
            return  # all have failed, and each is told when its logits are asked for
        for track in self._tracks:
            if track.inspected is not None:
                try:
                    yield Taken(target=track.target, measure=INTEGRITY, samples=track.inspected.finish())
                except QuantbenchError as error:
                    yield Taken(target=track.target, measure=INTEGRITY, error=named(track.target, error))
        tokens = sum(batch.tokens.size for batch in self._walk.batches)
        self._seconds_per_token = (time.perf_counter() - began) / len(self._tracks) / max(1, tokens)

    def _scored(
        self, measure: WalkMeasure[Any], share: Share[Any], number: int, track: Track, first: int, batches: int
    ) -> Taken:
        """One target's logits → samples, compared with the reference's."""
        target, name = track.target, measure.name
        tokens = sum(batch.tokens.size for batch in self._walk.batches[first : first + batches])
        try:
            found = share.scored(
                self._walk,
                track=number,
                first=first,
                seconds=self._seconds_per_token * tokens,
                before=track.before.get(name),
                reference=self._reference(measure, track),
            )
            self._refuse_idle(measure, track, found)
        except QuantbenchError as error:
            self._done[target, name] = named(target, error)
            return Taken(target=target, measure=measure, error=self._done[target, name])
        self._done[target, name] = found
        return Taken(target=target, measure=measure, samples=found)

    def _reference(self, measure: WalkMeasure[Any], track: Track) -> Any:
        """The samples that a target is compared with. Raises what kept the reference from them."""
        paired = track.target.paired
        if paired is None or not measure.paired:
            return None
        found = self._done.get((paired, measure.name), track.reference.get(measure.name))
        if isinstance(found, QuantbenchError):
            raise found
        return found

    def _refuse_idle(self, measure: WalkMeasure[Any], track: Track, found: Any) -> None:
        """Raise ComparisonError where a cache held nothing in few bits, or did nothing: beside the same weights, or
        else beside the reference.
        """
        refuse_unreached(track.target, found)
        name, plain = measure.name, without_cache(track.target)
        for other, others in (
            (plain, self._done.get((plain, name))),
            (track.target.reference, self._done.get((track.target.reference, name), track.reference.get(name))),
        ):
            if others is not None and not isinstance(others, QuantbenchError):
                refuse_idle(track.target, measure, found, other, others)

    def _finished(self, measure: WalkMeasure[Any], share: Share[Any]) -> Iterator[Taken]:
        """What needs a model in memory, one after the other, now that the walk is done with."""
        for track in self._tracks:
            target, before = track.target, track.before.get(measure.name)
            found = self._done[target, measure.name]
            if isinstance(found, QuantbenchError):
                continue
            try:
                whole = share.finished(
                    found,
                    self._engine,
                    track.artifact,
                    rounding=target.rounds,
                    before=before,
                    cache=track.cache,
                )
                yield Taken(target=target, measure=measure, samples=whole)
            except QuantbenchError as error:
                yield Taken(target=target, measure=measure, error=named(target, error))


def named(target: Target, error: QuantbenchError) -> QuantbenchError:
    """The error with the model and the recipe that it is of."""
    told = f"{target.model.name} at {target.recipe.id}: "
    return type(error)(f"{told}{str(error).removeprefix(told)}")
