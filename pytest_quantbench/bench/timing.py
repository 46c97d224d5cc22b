"""What is measured in memory: the whole model, item after item, whoever asks for each."""

from typing import Any, TypeVar

from pytest_quantbench.bench.artifacts import Artifacts
from pytest_quantbench.bench.inputs import Inputs
from pytest_quantbench.bench.target import Target
from pytest_quantbench.measures import ResidentMeasure, Trial

S = TypeVar("S")


class Timings:
    """The trials of all targets, by measure: started when first asked for."""

    def __init__(self, inputs: Inputs, artifacts: Artifacts) -> None:
        self._inputs, self._artifacts = inputs, artifacts
        self._trials: dict[tuple[Target, str], Trial[Any]] = {}

    def trial(self, target: Target, measure: ResidentMeasure[S]) -> Trial[S]:
        """One target's; the reference is run beside it where speed is judged, if it fits in memory.

        Raises ModelError for a model that cannot be measured so.
        """
        if (target, measure.name) not in self._trials:
            beside = self._beside(target)
            reference = None if beside is None else self._artifacts.of(beside)
            trial = measure.trial(self._artifacts.of(target), reference, self._inputs)
            trial.start()
            self._trials[target, measure.name] = trial
        return self._trials[target, measure.name]

    def _beside(self, target: Target) -> Target | None:
        """The reference, where its runs are interleaved with the target's."""
        paired = target.paired
        if paired is None or not self._inputs.engine.judges_speed:
            return None
        return paired

    def lacks(self, before: S | None, measure: ResidentMeasure[S], items: int | None) -> bool:
        """Whether a target whose samples are these, or has none, lacks some of so many items."""
        return before is None or measure.lacks(self._inputs, items, before)

    def measured(self, target: Target, measure: ResidentMeasure[S], items: int | None) -> S:
        """The samples of so many items; those that are left are done now, and the model is let go."""
        return self.trial(target, measure).finish(items)

    def let_go(self, target: Target) -> None:
        """Drop the models of trials that were started; later items load them again."""
        for (each, _), trial in self._trials.items():
            if each == target:
                trial.let_go()
