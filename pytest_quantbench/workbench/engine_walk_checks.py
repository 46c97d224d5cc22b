"""What an engine's walk has to keep to: it is the forward pass, of texts and of branches, for each track by itself.

A walk computes in float32, `reference_llama` in float64: losses may be apart by 1e-4 nats. In bfloat16, where the small
random models of these checks are moved by up to 0.8, they may be by 1.5. Logits have no form of their own, so what is
compared are the losses of several tokens at each position.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.engines.batches import Batch, behind_each_other
from pytest_quantbench.engines.protocol import Cached, Engine, Rounded, Walk
from pytest_quantbench.errors import WeightError
from pytest_quantbench.quantizers import Array, Fixed
from pytest_quantbench.workbench.engine_models import (
    VOCABULARY,
    WINDOWED,
    Given,
    SmallModel,
    SmallModels,
    branching_batches,
    even_batches,
    texts_of,
)
from pytest_quantbench.workbench.reference_llama import HEAD, ReferenceLlama, nll_of
from pytest_quantbench.workbench.trials import demand

LIMIT_NATS: Mapping[str, float] = {"float32": 1e-4, "bfloat16": 1.5}  # by the activations
ASKED = 6  # random tokens whose losses are compared at each position, beside the likeliest
UP, DOWN = (f"model.layers.1.mlp.{name}_proj.weight" for name in ("up", "down"))
RULED_NATS: Mapping[str, float] = {"float32": 1e-3, "bfloat16": 0.5}
Losses = NDArray[np.float64]


def is_the_forward_pass(engine: Engine, models: SmallModels) -> None:
    """A walk over texts gives the losses of a forward pass in float64, computed without any engine."""
    _demand_walk(engine, models.llama(), behind_each_other(even_batches()))
    _demand_walk(engine, models.llama(3, tie_word_embeddings=True), behind_each_other(even_batches()))


def equal_logits_are_told_as_such(engine: Engine, models: SmallModels) -> None:
    """A head of zeros makes all tokens equally likely: the perplexity is the size of the vocabulary."""
    model = models.llama(change={HEAD: np.zeros((VOCABULARY, 32), np.float32)})
    walk = run(engine, [model.weights(engine)], behind_each_other(even_batches()))
    demand(walk.vocabulary == VOCABULARY, f"the walk says {walk.vocabulary} logits a position, not {VOCABULARY}")
    found = np.exp(walk.logits(1, slice(None)).nll(np.arange(9)))
    demand(np.allclose(found, VOCABULARY, rtol=1e-5), f"the perplexity is {found.mean():.3f}, not {VOCABULARY}")


def steps_are_the_run(engine: Engine, models: SmallModels) -> None:
    """`begin` and `advance` for each of `len(walk)` steps are what `run` does, to the last bit."""
    weights, batches = models.llama().weights(engine), behind_each_other(even_batches())
    walk = engine.walk([weights])
    walk.begin(batches)
    for index in range(len(walk)):
        walk.advance(index)
    demand_same(walk, 0, run(engine, [weights], batches), 0, "step by step")


def logits_at_are_those_of_all(engine: Engine, models: SmallModels) -> None:
    """`logits` of a slice gives row after row, and `logits_at` the same positions one by one."""
    model, batches = models.llama(), behind_each_other(even_batches())
    walk, tokens = run(engine, [model.weights(engine)], batches), np.arange(3, 7)
    both = walk.logits(0, slice(4, 6)).nll(tokens)
    single = walk.logits_at(0, np.array([0, 0, 1, 1]), np.array([4, 5, 4, 5])).nll(tokens)
    rows = np.concatenate([model.reference().logits(text)[4:6] for text in batches[0].tokens])
    demand_near(engine, both, nll_of(rows, tokens), "logits of positions 4 and 5 of two rows")
    demand_near(engine, single, nll_of(rows, tokens), "logits_at the same positions")


def branches_go_on_from_their_rows(engine: Engine, models: SmallModels) -> None:
    """Rows that go on from others, of any lengths and padded at their ends, get what the whole text gets by itself."""
    model = models.llama()
    _demand_walk(engine, model, branching_batches(engine.prove(model.weights(engine)).branching))


def keeps_to_a_window(engine: Engine, models: SmallModels) -> None:
    """Of a model with a sliding window a token sees the window alone; or `capacity` says that texts are no longer."""
    model = models.llama(0, **WINDOWED)
    longest = engine.capacity(model.opened(engine).config).longest_input(20)
    batch = np.random.default_rng(2).integers(3, VOCABULARY, (2, min(20, longest)))
    _demand_walk(engine, model, behind_each_other([batch]))


def tracks_do_not_touch(engine: Engine, models: SmallModels) -> None:
    """Recipes that walk together get what each gets alone, to the last bit."""
    given, batches = [models.llama(seed).weights(engine) for seed in (0, 1)], behind_each_other(even_batches())
    several: tuple[Given | Rounded, ...] = (given[0], Rounded(given[0]), given[1])
    together = run(engine, several, batches)
    for track, alone in enumerate(several):
        demand_same(together, track, run(engine, [alone], batches), 0, f"track {track} of three")


def rounding_is_the_other_type(engine: Engine, models: SmallModels) -> None:
    """`Rounded` weights are walked in the other type of activations: near the plain ones, and not the same."""
    weights, batches = models.llama().weights(engine), behind_each_other(even_batches())
    walk = run(engine, [weights, Rounded(weights)], batches)
    plain, rounded = (losses_of(walk, track) for track in (0, 1))
    away = np.abs(plain - rounded).mean()
    demand(away > 1e-5, "rounded activations change nothing: no noise floor can be measured")
    demand(away < 0.2, f"rounded activations change a loss by {away:.2f} nats on average")


def a_track_that_ends_is_left_out(engine: Engine, models: SmallModels) -> None:
    """A track whose numbers end leaves the others as they are, and raises WeightError when it is asked for; where all
    end, the walk does.
    """
    broken, whole = _broken(models).weights(engine), models.llama(1).weights(engine)
    batches = behind_each_other(even_batches())
    walk = run(engine, [broken, whole], batches)
    demand_same(walk, 1, run(engine, [whole], batches), 0, "the track beside one that ended")
    demand(_ends(lambda: losses_of(walk, 0)), "a track whose numbers ended gives logits")
    demand(_ends(lambda: run(engine, [broken], batches)), "a walk whose numbers have ended raises no WeightError")


def states_may_go_to_files(engine: Engine, models: SmallModels) -> None:
    """Hidden states that do not fit in `memory_bytes` change nothing, to the last bit."""
    weights, batches = models.llama().weights(engine), branching_batches("even")
    if engine.prove(weights).branching not in ("any", "even"):
        batches = behind_each_other(even_batches())
    walk = engine.walk([weights], memory_bytes=0)
    walk.run(batches, "")
    demand_same(walk, 0, run(engine, [weights], batches), 0, "hidden states in files")


def inputs_go_through_their_rules(engine: Engine, models: SmallModels) -> None:
    """What `inputs` says is done to a layer's inputs: rounded so coarsely that all are zero, the layers say nothing."""
    model, batches = models.llama(), behind_each_other(even_batches())
    for rule in (Fixed(step=1e9, zero=0, bits=8), Fixed(step=0.25, zero=128, bits=8)):
        walk = run(engine, [Given(model.opened(engine), rule)], batches)
        away = np.abs(losses_of(walk, 0) - expected_losses(model.reference(rule), batches)).mean()
        # on average: a value halfway between two levels may be put on either, and that shows in a single loss
        demand(
            away <= RULED_NATS[engine.activations], f"with inputs on {rule} a loss is off by {away:.2g} nats on average"
        )


def the_hash_is_of_decoded_weights(engine: Engine, models: SmallModels) -> None:
    """`weights_sha256` is over path, shape and float32 values of all that was run, as `engines/digests` has them: a bit
    that differs shows, and what else was walked does not.
    """
    batches, seen = behind_each_other(even_batches())[1:], []
    changed = models.llama().tensors[UP].copy()
    changed[0, 0] = np.nextafter(changed[0, 0], np.float32(9), dtype=np.float32)
    several: Sequence[tuple[int, Mapping[str, Array]]] = ((0, {}), (0, {UP: changed}), (1, {}))
    given = [models.llama(seed, change=change).weights(engine) for seed, change in several]
    together = run(engine, given, batches)
    for track, weights in enumerate(given):
        seen.append(alone := run(engine, [weights], batches).weights_sha256())
        told = "another hash in company than alone"
        demand(together.weights_sha256(track) == alone, f"track {track} has {told}")
    demand(len(set(seen)) == 3, "weights that differ have one hash")
    expected = _defined_hash({name: engine.to_host(given[0].dense(name)) for name in given[0].names})
    demand(seen[0] == expected, f"{seen[0]} is not the hash that the protocol defines, {expected}")


def _defined_hash(tensors: Mapping[str, Array]) -> str:
    told = []
    for name, tensor in sorted(tensors.items()):
        values = np.ascontiguousarray(tensor.astype(np.float32))
        told.append(f"{name}={hashlib.sha256(f'{name}{values.shape}'.encode() + values.tobytes()).hexdigest()};")
    return hashlib.sha256("".join(told).encode()).hexdigest()


def _broken(models: SmallModels) -> SmallModel:
    """A model whose numbers end in a layer: finite weights, of which products are too large for any float."""
    name = DOWN
    huge = np.full_like(models.llama().tensors[name], 3e38)
    return models.llama(change={name: huge})


def _ends(step: Callable[[], object]) -> bool:
    """Whether it raises WeightError."""
    try:
        step()
    except WeightError:
        return True
    return False


def run(engine: Engine, weights: Sequence[Given | Rounded | Cached], batches: Sequence[Batch]) -> Walk:
    """A walk of these tracks that has been through all layers."""
    walk = engine.walk(weights)
    walk.run(batches, "")
    return walk


def _demand_walk(engine: Engine, model: SmallModel, batches: Sequence[Batch]) -> None:
    walk = run(engine, [model.weights(engine)], batches)
    demand_near(engine, losses_of(walk, 0), expected_losses(model.reference(), batches), "a walk")


def demand_same(walk: Walk, track: int, other: Walk, other_track: int, what: str) -> None:
    """Two tracks have the same losses, to the last bit."""
    same = np.array_equal(losses_of(walk, track), losses_of(other, other_track))
    demand(same, f"{what}: the logits are not the same to the last bit")


def demand_near(engine: Engine, found: Losses, expected: Losses, what: str) -> None:
    """Losses are no further apart than the engine's activations make them."""
    away, limit = np.abs(found - expected), LIMIT_NATS[engine.activations]
    demand(np.isfinite(found).all(), f"{what} gives losses that are no numbers")
    told = f"{what} is off by {away.max():.2g} nats at most, {away.mean():.2g} on average; allowed are {limit:g}"
    demand(away.max() <= limit, told)


def losses_of(walk: Walk, track: int) -> Losses:
    """Those of several tokens at every position of every row, padding left out."""
    found = []
    for number, (rows, places) in enumerate(_positions(walk.batches)):
        logits = walk.logits_at(number, rows, places, track)
        found += [logits.nll(tokens) for tokens in _asked(number, len(rows))]
    return np.concatenate(found)


def expected_losses(reference: ReferenceLlama, batches: Sequence[Batch]) -> Losses:
    """The same of the reference."""
    found = []
    for number, texts in enumerate(texts_of(batches)):
        logits = np.concatenate([reference.logits(tokens)[before:] for tokens, before in texts])
        found += [nll_of(logits, tokens) for tokens in _asked(number, len(logits))]
    return np.concatenate(found)


def _positions(batches: Sequence[Batch]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    lengths = [batch.lengths or (batch.tokens.shape[1],) * len(batch.tokens) for batch in batches]
    return [
        (np.repeat(np.arange(len(each)), each), np.concatenate([np.arange(length) for length in each]))
        for each in lengths
    ]


def _asked(number: int, positions: int) -> NDArray[np.int64]:
    """(ASKED, positions) tokens."""
    return np.random.default_rng(number).integers(0, VOCABULARY, (ASKED, positions))
