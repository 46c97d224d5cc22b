"""What every engine's walk has to keep to: tracks beside each other, weights read once, hidden states in files."""

import numpy as np
import pytest
from walked_models import ENGINES, Numbers, logits_of, walk_of

from pytest_quantbench.engines.batches import Batch
from pytest_quantbench.engines.protocol import Rounded
from pytest_quantbench.errors import WeightError
from pytest_quantbench.quantizers import Fixed

pytestmark = [pytest.mark.parametrize("engine", ENGINES), pytest.mark.model]
SHAPES = ((2, 30), (3, 17), (1, 1))


def batches():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 2048, shape) for shape in SHAPES]


def walked(engine, *tracks, **how):
    walk = walk_of(engine, *tracks, **how)
    walk.run(batches(), "")
    return walk


def broken(weights, layer):
    """The same with numbers that are none in one decoder layer."""
    name = next(name for name in weights.names if f"layers.{layer}.mlp.down_proj" in name)
    weights.parameters[name] = np.full_like(weights.parameters[name], np.nan)
    return weights


def test_logits_at_some_positions_are_those_of_all_positions(engine):
    walk = walked(engine, Numbers(engine))
    everywhere = logits_of(walk, SHAPES)[0]
    np.testing.assert_allclose(np.array(walk.head(0, slice(5, 9))), everywhere[:, 5:9], atol=1e-5)
    rows, places = np.array([0, 1, 1]), np.array([3, 0, 29])
    np.testing.assert_allclose(np.array(walk.head_at(0, rows, places)), everywhere[rows, places], atol=1e-5)
    assert walk.vocabulary == 2048


def test_every_weight_is_read_once_layer_after_layer(engine):
    weights = Numbers(engine)
    walked(engine, weights)
    assert sorted(weights.asked) == sorted(weights.names)
    layers = [int(name.split(".")[2]) for name in weights.asked if name.startswith("model.layers.")]
    assert layers == sorted(layers)


def test_the_hash_is_of_the_decoded_weights(engine):
    def digest(seed, change=0.0):
        weights = Numbers(engine, seed=seed)
        weights.parameters["model.layers.1.mlp.up_proj.weight"] += np.float32(change)
        return walked(engine, weights).weights_sha256()

    assert digest(0) == digest(0)
    assert len({digest(0), digest(1), digest(0, 1e-6)}) == 3


@pytest.mark.parametrize("memory_bytes", [0, 16000, 10**9])
def test_hidden_states_that_went_to_a_file_are_the_same(engine, memory_bytes):
    """Nothing in memory, one batch of three, or all: the logits are bit-identical."""
    plain, mapped = (walked(engine, Numbers(engine), memory_bytes=held) for held in (10**9, memory_bytes))
    for one, other in zip(logits_of(plain, SHAPES), logits_of(mapped, SHAPES), strict=True):
        np.testing.assert_array_equal(one, other)


def test_inputs_go_through_the_rule_of_their_layer(engine):
    """Inputs of 0 give the logits of a model whose linear layers in the decoder see zeros."""
    weights, ruled, silent = (Numbers(engine) for _ in range(3))
    nothing = Fixed(step=1e9, zero=0, bits=8)  # a grid whose first level is beyond every input
    ruled.inputs = lambda name: nothing if ".layers." in name and "proj" in name else None
    for name in silent.names:
        if ".layers." in name and "proj" in name:
            silent.parameters[name] = np.zeros_like(silent.parameters[name])
    found = [logits_of(walked(engine, source), SHAPES)[0] for source in (ruled, silent, weights)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0] - found[2]).max() > 0.01


def test_a_rule_leaves_with_its_weights(engine):
    weights, ruled = Numbers(engine), Numbers(engine)
    ruled.inputs = lambda name: Fixed(step=0.5, zero=8, bits=4) if ".layers." in name and "proj" in name else None
    together = walked(engine, ruled, weights)
    for mine, other in zip(logits_of(together, SHAPES, 1), logits_of(walked(engine, weights), SHAPES), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "mixtral"])
def test_recipes_that_walk_together_get_what_each_gets_alone(engine, architecture):
    """To the last bit: other weights, and the same weights with rounded activations."""
    first, second = Numbers(engine, architecture, 0), Numbers(engine, architecture, 1)
    together = walked(engine, first, Rounded(first), second)
    for track, alone in enumerate((first, Rounded(first), second)):
        walk = walked(engine, alone)
        for mine, other in zip(logits_of(together, SHAPES, track), logits_of(walk, SHAPES), strict=True):
            np.testing.assert_array_equal(mine, other)
        assert together.weights_sha256(track) == walk.weights_sha256()
    assert together.weights_sha256(0) == together.weights_sha256(1) != together.weights_sha256(2)
    exact, rounded = (logits_of(together, SHAPES, track)[0] for track in (0, 1))
    assert 0 < np.abs(exact - rounded).max() < 0.2


def test_the_weights_of_a_layer_are_read_once_for_all_that_share_them(engine):
    first, second = Numbers(engine, seed=0), Numbers(engine, seed=1)
    walked(engine, first, Rounded(first), second)
    for weights in (first, second):
        layers = [name for name in weights.asked if ".layers." in name]
        assert sorted(layers) == sorted(name for name in weights.names if ".layers." in name)


def test_recipes_may_be_asked_in_any_order(engine):
    walk = walked(engine, Numbers(engine, seed=0), Numbers(engine, seed=1))
    there = [logits_of(walk, SHAPES, track)[0] for track in (0, 1)]
    back = [logits_of(walk, SHAPES, track)[0] for track in (1, 0)]
    np.testing.assert_array_equal(there, back[::-1])


def test_a_recipe_whose_numbers_end_leaves_the_others_alone(engine):
    ending, whole = broken(Numbers(engine, seed=0), 1), Numbers(engine, seed=1)
    walk, alone = walked(engine, ending, whole), walked(engine, whole)
    assert not [name for name in ending.asked if ".layers.2." in name]
    for mine, other in zip(logits_of(walk, SHAPES, 1), logits_of(alone, SHAPES), strict=True):
        np.testing.assert_array_equal(mine, other)
    with pytest.raises(WeightError, match="Decoder layer 1 gives values that are no numbers"):
        walk.head(0, slice(None), 0)
    assert walk.vocabulary == alone.vocabulary


def test_where_all_end_the_walk_ends(engine):
    with pytest.raises(WeightError, match="Decoder layer 0"):
        walked(engine, *(broken(Numbers(engine, seed=seed), 0) for seed in (0, 1)))


def test_embeddings_that_are_no_numbers_are_told(engine):
    weights = Numbers(engine)
    weights.parameters["model.embed_tokens.weight"][:] = np.inf
    with pytest.raises(WeightError, match="The embeddings are no numbers"):
        walked(engine, weights)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_a_branch_gets_what_the_whole_text_gets(engine, architecture):
    """Contexts of unlike lengths that go on from rows of unlike lengths; Gemma's windows are shorter than the texts."""
    rng, weights = np.random.default_rng(1), Numbers(engine, architecture)
    roots, contexts, choices = (rng.integers(0, 2048, shape) for shape in ((2, 12), (3, 9), (4, 3)))
    family = [
        Batch(tokens=roots, lengths=(12, 10)),
        Batch(tokens=contexts, parent=0, rows=(0, 1, 0), lengths=(7, 4, 9)),
        Batch(tokens=choices, parent=1, rows=(0, 0, 1, 2), lengths=(2, 3, 1, 2)),
    ]
    wholes = [
        np.concatenate([roots[root][: (12, 10)[root]], contexts[row][:length], choices[choice][:own]])[None]
        for choice, (root, row, length, own) in enumerate([(0, 0, 7, 2), (0, 0, 7, 3), (1, 1, 4, 1), (0, 2, 9, 2)])
    ]
    branched, alone = walk_of(engine, weights), walk_of(engine, weights)
    branched.run(family, "")
    alone.run(wholes, "")
    found = np.array(branched.head(2, slice(None)))
    for choice, own in enumerate(family[2].lengths):
        expected = np.array(alone.head(choice, slice(None)))[0, -own:]
        np.testing.assert_allclose(found[choice, :own], expected, atol=2e-5)
