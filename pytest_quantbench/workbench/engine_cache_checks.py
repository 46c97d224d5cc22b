"""What an engine that holds the key-value cache in few bits has to keep to: a walk is decoding with such a cache.

The methods of these checks are continuous, so that what differs in a float's last bit differs so behind them, and so
coarse that a token in the wrong stage, or rounded with the wrong others, shows. `reference_cache` is in float64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints.tokenizer import load_tokenizer
from pytest_quantbench.engines.batches import PADDING, Batch, Places, behind_each_other
from pytest_quantbench.engines.protocol import Cached, Engine
from pytest_quantbench.quantizers.kv.protocol import CacheForm, Floats, KVQuantizer, Stage
from pytest_quantbench.workbench.engine_models import VOCABULARY, SmallModel, SmallModels, branching_batches
from pytest_quantbench.workbench.engine_walk_checks import (
    Losses,
    demand_near,
    demand_same,
    expected_losses,
    losses_of,
    run,
)
from pytest_quantbench.workbench.reference_cache import CachedLlama
from pytest_quantbench.workbench.trials import demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """Every number a `share` of the way towards its channel's mean over `token_group` tokens, the first channel larger
    by it; `looks`: by how much queries and keys of these tokens agree, besides.
    """

    share: float
    token_group: int = 1
    looks: bool = False

    def rounded(self, numbers: Floats, queries: Floats | None = None, keys: Floats | None = None) -> Floats:
        """(heads, tokens, channels) → the same."""
        found = numbers.copy()
        for first in range(0, numbers.shape[1], self.token_group):
            some = slice(first, first + self.token_group)
            group = found[:, some]
            group += np.float32(self.share) * (group.mean(1, keepdims=True) - group)
            group[..., 0] *= np.float32(1 + self.share)
            if self.looks and queries is not None and keys is not None:
                asked = queries.reshape(len(keys), -1, *queries.shape[1:]).mean(1)
                agreed = (asked[:, some] * keys[:, some]).mean((1, 2))
                group *= (1 + np.tanh(agreed) / 2)[:, None, None]
        return found

    def stored_bits(self, tokens: int, channels: int) -> float:
        """It saves nothing."""
        return 16.0 * tokens * channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Formed(KVQuantizer):
    """A method that holds heads of any size in one form."""

    name: ClassVar[str] = "tried"
    version: ClassVar[int] = 1
    held: CacheForm

    def form(self, channels: int) -> CacheForm:
        """Always the same."""
        return self.held


def _stage(share: float, token_group: int = 1, *, looks: bool = False, age: int = 0, chunk: int = 1) -> Stage:
    return Stage(rounding=Blend(share=share, token_group=token_group, looks=looks), age=age, chunk=chunk)


AT_ONCE = CacheForm(keys=(_stage(0.5),), values=(_stage(0.7),))
BY_AGE = CacheForm(keys=(_stage(0.3, age=1), _stage(0.9, 2, age=3, chunk=2)), values=(_stage(0.6, 4, age=2, chunk=4),))
OLD = 5  # tokens: of this age the first one goes into few bits
LATE = CacheForm(keys=(_stage(0.3, age=OLD),), values=(_stage(0.3, age=OLD),))
FORMS: Mapping[str, CacheForm] = {
    "each token at once": AT_ONCE,
    "tokens by age and by groups": BY_AGE,
    "keys rotated, behind two tokens in full": CacheForm(
        keys=(_stage(0.5, 2, age=1, chunk=2),), values=(_stage(0.7),), rotates=True, sinks=2
    ),
    "tokens by their queries": CacheForm(
        keys=(_stage(0.2, 3, looks=True, chunk=3),), values=(_stage(0.4, 3, looks=True, age=2, chunk=3),)
    ),
}


def a_walk_is_decoding_with_its_cache(engine: Engine, models: SmallModels) -> None:
    """Keys and values are seen as the method's form says: of the stage that the query's own age gives, rounded once."""
    random = np.random.default_rng(4)
    batches = behind_each_other([random.integers(3, VOCABULARY, shape) for shape in ((2, 14), (1, 1))])
    _demand_cached(engine, models.llama(), batches, FORMS)


def branches_are_held_like_their_texts(engine: Engine, models: SmallModels) -> None:
    """Rows that go on from others are rounded with these, and without what pads either."""
    model = models.llama()
    batches = branching_batches(engine.prove(model.weights(engine)).branching)
    _demand_cached(engine, model, batches, {name: FORMS[name] for name in list(FORMS)[1:]})


def a_cache_leaves_other_tracks_alone(engine: Engine, models: SmallModels) -> None:
    """A track with a cache in few bits changes nothing of the others', which share its weights, nor of their hashes."""
    weights = models.llama().weights(engine)
    batches = behind_each_other([np.random.default_rng(5).integers(3, VOCABULARY, (1, 9))])
    together = run(engine, [weights, Cached(weights, Formed(held=BY_AGE)), weights], batches)
    alone = run(engine, [weights], batches)
    demand_same(together, 0, alone, 0, "the track before one with a cache")
    demand_same(together, 2, alone, 0, "the track behind one with a cache")
    demand(together.weights_sha256(1) == alone.weights_sha256(), "a cache changes the hash of the weights")


def answers_are_written_with_the_cache(engine: Engine, models: SmallModels) -> None:
    """A model that is loaded with a method for its cache writes what is likeliest with that cache."""
    if "resident" not in engine.can:
        return
    model, tokenizer, differs = models.llama(), load_tokenizer(TINY_DIRECTORY), False
    prompts = [np.random.default_rng(6 + length).integers(3, VOCABULARY, length).tolist() for length in (7, 4)]
    for name, form in FORMS.items():
        method = Formed(held=form)
        loaded = engine.load(model.weights(engine), "answers", method)
        found = loaded.generate(tokenizer, prompts, stops=[()] * 2, new_tokens=4, what="", end_tokens=())
        expected = [tuple(_cached(model, method).greedy(prompt, 4)) for prompt in prompts]
        demand([each.tokens for each in found] == expected, f"with {name}, other tokens than the likeliest are written")
        demand(
            all(each.engaged for each in found), f"with {name}, answers do not tell that they saw tokens in few bits"
        )
        differs = differs or expected != [tuple(model.reference().greedy(prompt, 4)) for prompt in prompts]
    demand(differs, "no cache of this check changes what is written")


def what_was_reached_is_told(engine: Engine, models: SmallModels) -> None:
    """Of every place it is known whether it hangs on a token in few bits, and of an answer: by the positions alone."""
    model, method = models.llama(), Formed(held=LATE)
    weights = model.weights(engine)
    batches = branching_batches(engine.prove(weights).branching)
    walk = run(engine, [weights, Cached(weights, method)], batches)
    told: list[NDArray[np.bool_]] = []
    for number, (batch, places) in enumerate(zip(batches, Places.of(batches), strict=True)):
        own = places.keys[:, places.keys.shape[1] - batch.tokens.shape[1] :]
        told.append((own >= OLD) & (own < PADDING))
        demand(walk.engaged(number) is None, "a track with its cache in 16 bits is told to have one in few bits")
        found = walk.engaged(number, 1)
        right = found is not None and found.shape == own.shape and (found == told[-1])[own < PADDING].all()
        demand(bool(right), "which places hang on a token in few bits is told wrong")
    demand(any(each.any() for each in told), "no batch of this check is long enough")
    shapes = walk.cache_shapes(1)
    demand(len(shapes) == len(walk) and len(set(shapes)) == 1, "what the layers store is not told of each")
    if "resident" in engine.can:
        tokenizer, loaded = load_tokenizer(TINY_DIRECTORY), engine.load(weights, "answers", method)
        prompts = [list(range(3, 3 + length)) for length in (OLD + 1, OLD - 2)]
        answers = loaded.generate(tokenizer, prompts, stops=[()] * 2, new_tokens=2, what="", end_tokens=())
        demand(
            [each.engaged for each in answers] == [True, False], "which answers saw tokens in few bits is told wrong"
        )


def _demand_cached(engine: Engine, model: SmallModel, batches: Sequence[Batch], forms: Mapping[str, CacheForm]) -> None:
    weights = model.weights(engine)
    methods = [Formed(held=form) for form in forms.values()]
    walk = run(engine, [weights, *(Cached(weights, method) for method in methods)], batches)
    plain = losses_of(walk, 0)
    for track, (name, method) in enumerate(zip(forms, methods, strict=True), start=1):
        found: Losses = losses_of(walk, track)
        away = np.abs(found - plain).mean()
        demand(away > 1e-3, f"a cache that holds {name} changes nothing: it is not held so")
        demand_near(engine, found, expected_losses(_cached(model, method), batches), f"a cache that holds {name}")


def _cached(model: SmallModel, method: KVQuantizer) -> CachedLlama:
    return CachedLlama(model.config, model.tensors, method)
