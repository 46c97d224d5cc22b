"""Whether two engines compute the same of a model: both walk the same weights, over T2's texts and T3's choices.

The weights are the original's, which each engine reads by itself, and those of artifacts that one of them made, which
reach the other through their published names (see published_values). The losses are compared token by token, the
choices by their log-likelihood per token, so that nothing averages out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pytest_quantbench import quantizers
from pytest_quantbench.bench.artifacts import Artifacts
from pytest_quantbench.bench.inputs import Inputs
from pytest_quantbench.bench.target import Target
from pytest_quantbench.catalog.models import Model
from pytest_quantbench.catalog.recipes import Recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.engines import need
from pytest_quantbench.engines.batches import behind_each_other
from pytest_quantbench.engines.parameters import Capacity
from pytest_quantbench.engines.protocol import Cached, Engine, Rounded, Walk, Weights
from pytest_quantbench.engines.walk_proof import BRANCHING, Proof
from pytest_quantbench.measures.accuracy.task_set import TaskSet
from pytest_quantbench.measures.perplexity.score import score
from pytest_quantbench.measures.perplexity.scripts import first_script
from pytest_quantbench.measures.requests import Plan, answers
from pytest_quantbench.measures.samples import PerplexitySamples
from pytest_quantbench.quantizers import kv
from pytest_quantbench.stats.distances import Distances, distances
from pytest_quantbench.workbench.published_values import ForAnotherEngine, PublishedValues


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Two walks of the same weights. Distances are in nats: of losses, and of choices' log-likelihoods per token.

    `differing_weights`: parameters of the second engine whose values are not those of the first. `other_likeliest`
    counts the tokens at which another one is likeliest, `widest_tie_nats` is how far apart the two are there at most,
    as the first engine sees them. `kl_nats`: the mean divergence of the second from the first, and the largest.
    `rounds_inputs`: the recipe puts layers' inputs on a grid, or keys and values.
    """

    recipe: str
    rounds_inputs: bool
    weights_sha256: tuple[str, str]
    differing_weights: tuple[str, ...]
    mean_loss_nats: tuple[float, float]
    losses: Distances
    choices: Distances
    kl_nats: tuple[float, float]
    other_likeliest: int
    widest_tie_nats: float | None

    def within(self, limit: float) -> bool:
        """Whether the weights are the same, and no token and no choice is further apart than a limit per token."""
        return not self.differing_weights and self.losses.within(limit) and self.choices.within(limit)


class SharedInputs(Inputs):
    """One model's texts, tasks and artifacts, as the first engine has them, of texts that both can take."""

    def __init__(self, model: Model, settings: Settings, second: Engine) -> None:
        super().__init__(model, settings)
        self.second = second

    @property
    def capacity(self) -> Capacity:
        """What both take."""
        return self.once("both", self._both)

    def _both(self) -> Capacity:
        first, second = (engine.capacity(self.opened.config) for engine in (self.engine, self.second))
        limits = [each.positions for each in (first, second) if each.positions is not None]
        return Capacity(vocabulary=first.vocabulary or second.vocabulary, positions=min(limits, default=None))


def task_set(inputs: Inputs) -> TaskSet:
    """The questions of T3 that the settings ask for."""
    settings = inputs.settings
    return TaskSet(
        inputs.tokenizer,
        inputs.capacity,
        inputs.tasks,
        settings.task_files,
        settings.limit,
        settings.seed,
        offline=settings.offline,
    )


class Comparison:
    """Two engines on one model. `asked` has T3's choices, None where none are compared.

    `inputs` come with the first engine; `recipes` are compared in their order.
    """

    def __init__(self, inputs: SharedInputs, recipes: Sequence[Recipe], asked: TaskSet | None) -> None:
        self._inputs, self._recipes, self._asked = inputs, recipes, asked
        self._script = first_script(inputs)
        self._engines = (inputs.engine, inputs.second)

    def run(self, *, floor: bool = False) -> "Compared":
        """Walk with both. `floor`: the first engine walks the first recipe in the other type of activations, too.

        Raises QuantbenchError for a recipe of the key-value cache where an engine cannot hold one.
        """
        inputs, artifacts = self._inputs, Artifacts(self._inputs)
        if any(recipe.cache for recipe in self._recipes):
            for engine in self._engines:
                need(engine, "kv")
        made = [artifacts.of(Target(model=inputs.model, recipe=recipe)) for recipe in self._recipes]
        opened = inputs.second.open(inputs.checkpoint)
        others = [ForAnotherEngine(PublishedValues(artifact, inputs.opened), opened) for artifact in made]
        rounded = [Rounded(made[0])] if floor else []
        memory = inputs.settings.memory_bytes // 2
        ours, theirs = list(map(_held, made, self._recipes)), list(map(_held, others, self._recipes))
        walks = (
            inputs.engine.walk([*ours, *rounded], memory_bytes=memory),
            inputs.second.walk(theirs, memory_bytes=memory),
        )
        plan = None if self._asked is None else self._asked.choices.plan(_of_both(walks))
        texts = behind_each_other(self._script.batches())
        batches = behind_each_other(texts, [] if plan is None else plan.batches)
        for walk, engine in zip(walks, self._engines, strict=True):
            walk.run(batches, f"{inputs.model.name} on {engine.name}")
        tracks = [self._agreement(walks, track, plan, len(texts)) for track in range(len(others))]
        found = [
            replace(
                each,
                recipe=recipe.id,
                rounds_inputs=recipe.cache is not None
                or any(quantizers.get(part.quantizer).has_input_rule for part in recipe.parts),
                differing_weights=_differing(each, other, artifact.names),
            )
            for each, recipe, other, artifact in zip(tracks, self._recipes, others, made, strict=True)
        ]
        noise = self._floor(walks[0], len(others)) if floor else None
        return Compared(agreements=tuple(found), noise_floor=noise)

    def _agreement(self, walks: tuple[Walk, Walk], track: int, plan: Plan | None, first: int) -> Agreement:
        scored = [score(self._script, walks[0], track=track)]
        scored.append(score(self._script, walks[1], track=track, reference=scored[0]))
        ours, theirs = (parts_of(each) for each in scored)
        losses = [np.concatenate([part.nll_nats for part in parts]) for parts in (ours, theirs)]
        gaps = np.concatenate([_gaps(mine, other) for mine, other in zip(ours, theirs, strict=True)])
        divergences = np.concatenate([part.fidelity.kl_nats for part in theirs if part.fidelity is not None])
        chosen = [] if plan is None else [answers(plan, walk, track=track, first=first) for walk in walks]
        ours_chosen, theirs_chosen = [[each.loglikelihood for each in several] for several in chosen] or ([], [])
        return Agreement(
            recipe="",
            rounds_inputs=False,
            weights_sha256=(walks[0].weights_sha256(track), walks[1].weights_sha256(track)),
            differing_weights=(),
            mean_loss_nats=(float(losses[0].mean(dtype=np.float64)), float(losses[1].mean(dtype=np.float64))),
            losses=distances(losses[0], losses[1]),
            choices=distances(ours_chosen, theirs_chosen, per=self._tokens_of_choices()),
            kl_nats=(float(divergences.mean(dtype=np.float64)), float(divergences.max())),
            other_likeliest=len(gaps),
            widest_tie_nats=float(gaps.max()) if len(gaps) else None,
        )

    def _tokens_of_choices(self) -> list[int]:
        """How many tokens each choice has."""
        asked = [] if self._asked is None else self._asked.choices.requests
        return [len(request.continuation) for request in asked]

    def _floor(self, walk: Walk, track: int) -> Distances:
        """What the first engine's own losses do in the other type of activations."""
        plain, rounded = (parts_of(score(self._script, walk, track=each)) for each in (0, track))
        return distances(*(np.concatenate([part.nll_nats for part in parts]) for parts in (plain, rounded)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Every recipe's agreement, and the noise floor where it was asked for."""

    agreements: tuple[Agreement, ...]
    noise_floor: Distances | None


def _held(weights: Weights, recipe: Recipe) -> Weights | Cached:
    """What a walk gets of a recipe."""
    return weights if recipe.cache is None else Cached(weights, kv.make(recipe.cache))


def parts_of(samples: PerplexitySamples) -> list[PerplexitySamples]:
    """Those of the judged text, and those beside it."""
    return [samples, *samples.beside.values()]


def _of_both(walks: tuple[Walk, Walk]) -> Proof:
    """Of the two architectures the one that takes fewer kinds of branches. Raises ModelError where one takes none."""
    return max((walk.proof for walk in walks), key=lambda proof: BRANCHING.index(proof.for_choices()))


def _gaps(mine: PerplexitySamples, other: PerplexitySamples) -> Any:
    """Of each position at which another token is likeliest: how much less likely the first engine finds it, in nats."""
    kept, found = mine.distributions, other.fidelity
    assert kept is not None
    assert found is not None
    apart = np.flatnonzero(~found.same_top)
    if kept.tokens.size == 0:
        theirs = kept.log_probabilities[apart, found.likeliest[apart]]
    else:  # one that is nobody's among those kept is below all that were kept for sure
        is_theirs = kept.tokens[apart] == found.likeliest[apart, None]
        theirs = np.where(is_theirs, kept.log_probabilities[apart], -np.inf).max(-1, initial=-np.inf)
        theirs = np.maximum(theirs, kept.log_probabilities[apart].min(-1))
    return kept.log_probabilities[apart].max(-1) - theirs


def _differing(agreement: Agreement, weights: ForAnotherEngine, names: Sequence[str]) -> tuple[str, ...]:
    """Parameters whose values differ; where both engines have the same names, the hashes of what they ran say it."""
    first, second = agreement.weights_sha256
    same_names = sorted(names) == sorted(weights.names)
    odd = weights.differing or ({"the hash of all"} if same_names and first != second else set())
    return tuple(sorted(odd))
