"""The weights of every target of one model: compressed, found or damaged when first asked for, and opened once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from pytest_quantbench.bench.damage import DAMAGES
from pytest_quantbench.bench.inputs import Inputs
from pytest_quantbench.bench.target import Target
from pytest_quantbench.catalog.candidates import Candidate
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.compress.artifact import Artifact
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.external import External
from pytest_quantbench.compress.identity import config_for, facts
from pytest_quantbench.compress.pipeline import compress, key_of, used_calibration
from pytest_quantbench.engines.machine import describe
from pytest_quantbench.progress import stage
from pytest_quantbench.quantizers import kv


class Artifacts:
    """By target. What keeps a recipe from being compressed is raised every time that it is asked for."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._opened: dict[Target, Artifact] = {}

    def of(self, target: Target) -> Artifact:
        """The weights of a target. Raises what `compress` raises."""
        if target not in self._opened:
            self._opened[target] = self._made(target)
        return self._opened[target]

    def _made(self, target: Target) -> Artifact:
        inputs, settings = self._inputs, self._inputs.settings
        if target.rounds:
            return self.of(target.plain)  # a walk reads the weights of both once
        if target.recipe.cache is not None:
            return self.of(replace(target, recipe=target.recipe.of_weights))
        if target.damage is not None:
            return DAMAGES[target.damage](self.of(target.plain), inputs.opened, settings.seed)
        if target.recipe.candidate is not None:
            with stage("check the file", target.id):
                return self._external(target.recipe, target.recipe.candidate)
        opened = inputs.opened
        with stage("compress", target.id):
            return compress(
                opened,
                target.recipe,
                settings.seed,
                settings.cache,
                self._calibration,
                stored=settings.writes.stores,
                memory_bytes=settings.memory_bytes,
            )

    def _external(self, recipe: Recipe, candidate: Candidate) -> Artifact:
        """What somebody else made, once it is known to be the reference's. Raises ModelError where it is not."""
        inputs = self._inputs
        holding, original = inputs.holding(candidate), inputs.opened
        config = config_for(original.config, holding.claims()) if candidate.own_config else original.config
        made = External(holding, original, recipe, config)
        made.candidate_facts = facts(made, candidate, inputs.opened, inputs.tokenizer)
        return made

    def key(self, target: Target) -> str:
        """What the weights are known by before they are made. Raises QuantbenchError for a recipe that needs a
        calibration text where there is none.
        """
        inputs = self._inputs
        if target.recipe.candidate is not None:
            key = self.of(target.plain).manifest.key
        else:
            key = key_of(inputs.opened, target.recipe.of_weights, inputs.settings.seed, self.calibrated_by(target))
        if (held := target.recipe.cache) is not None:
            key = f"{key} {held.quantizer} {kv.get(held.quantizer).version} {dict(held.parameters)}"
        return key if target.damage is None else f"{key} {target.damage}"

    def identify(self, target: Target) -> dict[str, Any]:
        """The weights, and the machine and its libraries, as plain JSON values."""
        machine = msgspec.to_builtins(describe(self._inputs.engine))
        return {"artifact": self.key(target), "rounding": target.rounds, "machine": machine}

    def calibrated_by(self, target: Target) -> CalibrationSet | None:
        """The text that the recipe is fitted to, if it is."""
        return used_calibration(target.recipe.of_weights, self._calibration)

    @property
    def _calibration(self) -> Callable[[], CalibrationSet] | None:
        return None if self._inputs.settings.calibration == "none" else lambda: self._inputs.calibration
