"""T3 as a measure: its items are questions of a task, asked along a walk or of the model in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_quantbench.measures.protocol import Inputs, Share, WalkMeasure
from pytest_quantbench.measures.samples import AccuracySamples

if TYPE_CHECKING:
    from pytest_quantbench.compress.artifact import Artifact
    from pytest_quantbench.engines.batches import Batch
    from pytest_quantbench.engines.protocol import Engine, Walk
    from pytest_quantbench.engines.walk_proof import Proof
    from pytest_quantbench.measures.accuracy.task_set import TaskSet
    from pytest_quantbench.quantizers.kv import KVQuantizer


class AccuracyShare(Share[AccuracySamples]):
    """The choices of what is asked; what models write comes behind the walk. `added_to`: the task that gets more."""

    wants_model = True

    def __init__(self, asked: TaskSet, version: int, added_to: str | None = None) -> None:
        self._asked, self._version, self._added_to = asked, version, added_to

    @cached_property
    def work(self) -> Mapping[str, Any]:
        """All that is asked."""
        return {"version": self._version, "asked": self._asked.sha256}

    def batches(self, proof: Proof) -> Sequence[Batch]:
        """The contexts and the choices. Raises ModelError where the architecture has no way for them."""
        return self._asked.choices.plan(proof).batches

    def scored(
        self,
        walk: Walk,
        *,
        track: int,
        first: int,
        seconds: float,
        before: AccuracySamples | None,
        reference: AccuracySamples | None,
    ) -> AccuracySamples:
        """The answers that are chosen."""
        from pytest_quantbench.measures.accuracy.score import chosen  # lm-eval takes seconds to import

        found = chosen(self._asked, walk, track=track, first=first)
        return replace(found, seconds=found.seconds + seconds)

    def finished(
        self,
        samples: AccuracySamples,
        engine: Engine,
        artifact: Artifact,
        *,
        rounding: bool,
        before: AccuracySamples | None,
        cache: KVQuantizer | None = None,
    ) -> AccuracySamples:
        """With the answers that are written, behind those of before."""
        from pytest_quantbench.measures.accuracy.score import written

        whole = written(engine, self._asked, artifact, samples, rounding=rounding, cache=cache)
        return whole if before is None or self._added_to is None else before.joined(self._added_to, whole)


class Accuracy(WalkMeasure[AccuracySamples]):
    """T3."""

    name, label, version = "accuracy", "T3", 5
    samples = AccuracySamples

    def share(
        self, inputs: Inputs, items: int | None, before: AccuracySamples | None, of: str | None = None
    ) -> Share[AccuracySamples] | None:
        """`--limit` questions of every task; later, more of one task, as far as it has them."""
        if before is None:
            return AccuracyShare(_asked(inputs, inputs.tasks, inputs.settings.limit), self.version)
        names = list(before.available)  # in the order in which tasks are given
        name = of or names[0]
        start = len(before.tasks[name].ids)
        if items is None or start >= min(items, before.available[name]):
            return None
        asked = _asked(inputs, [inputs.tasks[names.index(name)]], items, start)
        return AccuracyShare(asked, self.version, added_to=name)

    def is_same(self, samples: AccuracySamples, other: AccuracySamples) -> bool:
        """Whether all log-likelihoods are, and all that was written, on the questions that both have."""
        pairs = [(task, other.tasks[name]) for name, task in samples.tasks.items() if name in other.tasks]
        return bool(pairs) and all(
            mine == others
            for one, two in pairs
            for a, b in ((one.loglikelihoods, two.loglikelihoods), (one.texts, two.texts))
            for mine, others in zip(a, b, strict=False)
        )


def _asked(inputs: Inputs, tasks: Sequence[str], limit: int, start: int = 0) -> TaskSet:
    """What is asked of these tasks, made once for all recipes."""
    return inputs.once(("questions", tuple(tasks), limit, start), lambda: _task_set(inputs, tasks, limit, start))


def _task_set(inputs: Inputs, tasks: Sequence[str], limit: int, start: int) -> TaskSet:
    from pytest_quantbench.measures.accuracy.task_set import TaskSet  # lm-eval takes seconds to import

    settings = inputs.settings
    return TaskSet(
        inputs.tokenizer,
        inputs.capacity,
        tasks,
        settings.task_files,
        limit,
        settings.seed,
        offline=settings.offline,
        start=start,
        run_code=settings.run_code,
    )


ACCURACY = Accuracy()
