"""A model under test and its cells: what a session, or a program, begins with."""

from collections.abc import Sequence
from pathlib import Path

from pytest_quantbench import measures, quantizers
from pytest_quantbench.bench.cell import Cell
from pytest_quantbench.bench.inputs import Inputs
from pytest_quantbench.bench.noise_floor import FLOORS
from pytest_quantbench.bench.schedule import Schedule
from pytest_quantbench.bench.target import Target
from pytest_quantbench.bench.wants import Want
from pytest_quantbench.catalog.models import MODELS, Model, check_models, user_model
from pytest_quantbench.catalog.recipes import REFERENCE, Recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.compress.manifest import save_manifest
from pytest_quantbench.errors import QuantbenchError, unknown
from pytest_quantbench.fetch.download import delete_weights
from pytest_quantbench.fetch.evicted import delete


class Subject:
    """A model by its name in the catalogue, its path or its Hub id, under these settings (None: the defaults).

    Raises QuantbenchError for a name that is none of these, and for a path where no model lies.
    """

    def __init__(self, model: Model | str, settings: Settings | None = None) -> None:
        self.inputs = Inputs(_model(model) if isinstance(model, str) else model, settings or Settings())
        self.schedule = Schedule(self.inputs)
        self._cells: dict[str, Cell] = {}

    @property
    def model(self) -> Model:
        """The catalogue's entry, or the user's own."""
        return self.inputs.model

    @property
    def reused(self) -> list[str]:
        """What earlier sessions have measured, and this one has taken from there."""
        return self.schedule.samples.reused

    @property
    def reference(self) -> Cell:
        """The model's bf16 cell."""
        return self.cell(REFERENCE)

    def cell(self, chosen: Recipe | str) -> Cell:
        """The cell of one recipe, by itself or its id: the same object every time.

        Raises UnknownNameError for a level or a method that does not exist.
        """
        if isinstance(chosen, str):
            chosen = quantizers.recipe_of(chosen)
        if chosen.id not in self._cells:
            self._cells[chosen.id] = Cell(Target(model=self.model, recipe=chosen), self.schedule)
        return self._cells[chosen.id]

    def expect(self, wanted: Sequence[tuple[Recipe, str]]) -> None:
        """Say of which recipes this session will ask for samples of which measure: they are taken along one walk."""
        for chosen, name in wanted:  # where there is a noise floor, the reference with other activations too
            cell, measure = self.cell(chosen), measures.get(name)
            targets = [cell.target]
            if name in FLOORS and (chosen.candidate or cell.criteria.is_judged(name)):
                targets.append(cell.target.rounded)
            self.schedule.expected += [Want(target=target, measure=measure) for target in targets]

    def refuse_strangers(self, candidates: Sequence[Recipe]) -> None:
        """Raise what keeps the first candidate from being compared, if none can be: so that the model itself is not
        measured in vain.
        """
        errors: list[QuantbenchError] = []
        for each in candidates:
            try:
                _ = self.cell(each).artifact
            except QuantbenchError as error:
                errors.append(error)
            else:
                return
        if errors:
            raise errors[0]

    def delete_weights(self) -> int:
        """Delete the BF16 weights that this run fetched, where the disk plan says so; returns how many bytes."""
        settings = self.inputs.settings
        if settings.disk_plan.keeps_bf16:
            return 0
        if not self.inputs.is_opened:
            return delete_weights(self.model.source)  # of a model that could not be opened
        commit = self.inputs.checkpoint.revision
        if commit is None or not self.inputs.checkpoint.is_here:
            return 0
        save_manifest(settings.cache, self.reference.artifact.manifest)
        self.inputs.opened.let_go()
        return delete(settings.cache, self.model.source, commit, self.inputs.checkpoint)


def _model(source: str) -> Model:
    if source in MODELS:
        return MODELS[source]
    if "/" not in source and not Path(source).exists():
        raise unknown("model", source, list(MODELS), "Or give a directory, or a Hub id like 'owner/name'.")
    check_models([source], "Subject")
    return user_model(source, "Subject")
