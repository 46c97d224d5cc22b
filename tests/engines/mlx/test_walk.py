import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from small_models import CONFIGS, HEADS, InMemory

from pytest_quantbench.engines.mlx.skeleton import decoder_layers, shapes, skeleton
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.engines.protocol import Rounded
from pytest_quantbench.errors import ModelError, WeightError
from pytest_quantbench.quantizers import Fixed


def batches():
    rng = np.random.default_rng(0)
    return [mx.array(rng.integers(0, 2048, shape)) for shape in ((2, 30), (3, 17), (1, 1))]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_walk_is_bit_identical_to_the_plain_forward(architecture):
    weights = InMemory(architecture)
    expected = [weights.model(batch) for batch in batches()]
    walk = Walk(weights, host=False)
    walk.run(batches(), "")
    for index, logits in enumerate(expected):
        assert mx.array_equal(walk.head(index, slice(None)), logits)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_numpy_products_change_nothing_that_matters(architecture):
    weights = InMemory(architecture)
    expected = [np.array(weights.model(batch)) for batch in batches()]
    walk = Walk(weights, host=True)
    walk.run(batches(), "")
    for index, logits in enumerate(expected):
        assert np.abs(np.array(walk.head(index, slice(None))) - logits).max() < 5e-5


def test_logits_at_some_positions_are_those_of_all_positions():
    walk = Walk(InMemory("llama"), host=True)
    walk.run(batches(), "")
    everywhere = np.array(walk.head(0, slice(None)))
    np.testing.assert_allclose(np.array(walk.head(0, slice(5, 9))), everywhere[:, 5:9], atol=1e-6)


def test_every_weight_is_read_once_layer_after_layer():
    weights = InMemory("llama")
    Walk(weights, host=True).run(batches(), "")
    assert sorted(weights.asked) == sorted(weights.names)
    layers = [int(name.split(".")[2]) for name in weights.asked if name.startswith("model.layers.")]
    assert layers == sorted(layers)


def test_the_hash_is_of_the_decoded_weights():
    def digest(seed, change=0.0):
        weights = InMemory("llama", seed)
        weights.parameters["model.layers.1.mlp.up_proj.weight"] += change
        walk = Walk(weights, host=True)
        walk.run(batches()[:1], "")
        return walk.weights_sha256()

    assert digest(0) == digest(0)
    assert len({digest(0), digest(1), digest(0, 1e-6)}) == 3


def test_a_layer_leaves_memory_when_it_is_done():
    weights = InMemory("llama")
    walk = Walk(weights, host=True)
    walk.run(batches()[:1], "")
    held = [array.size for name, array in tree_flatten(walk._model.parameters()) if ".layers." in name]
    assert sum(held) == 0


def test_an_architecture_mlx_lm_does_not_have_is_named():
    with pytest.raises(ModelError, match="'perceptron'"):
        skeleton({"model_type": "perceptron"}, [])


def test_a_config_that_lacks_something_is_refused():
    with pytest.raises(ModelError, match="cannot build a 'llama' model"):
        skeleton({"model_type": "llama", "hidden_size": 64}, [])


def test_a_model_without_a_list_of_layers_is_refused():
    import mlx.nn as nn

    with pytest.raises(ModelError, match="no list of decoder layers"):
        decoder_layers(nn.Linear(4, 4))


def test_shapes_evaluate_nothing():
    huge = CONFIGS["llama"] | {"hidden_size": 2**15, "vocab_size": 2**20}
    before = mx.get_active_memory()
    assert shapes(skeleton(huge, HEADS))["model.embed_tokens.weight"] == (2**20, 2**15)
    assert mx.get_active_memory() - before < 2**20


@pytest.mark.parametrize("memory_bytes", [0, 16000, 10**9])
def test_hidden_states_that_went_to_a_file_are_the_same(memory_bytes):
    """Nothing in memory, one batch of three, or all: the logits are bit-identical."""
    plain = Walk(InMemory("llama"), host=True)
    mapped = Walk(InMemory("llama"), host=True, memory_bytes=memory_bytes)
    for walk in (plain, mapped):
        walk.run(batches(), "")
    for index in range(3):
        assert mx.array_equal(plain.head(index, slice(None)), mapped.head(index, slice(None)))


def test_inputs_go_through_the_rule_of_their_layer():
    """Inputs of 0 give the logits of a model whose linear layers in the decoder see zeros."""
    weights, ruled = InMemory("llama"), InMemory("llama")
    nothing = Fixed(step=1e9, zero=0, bits=8)  # a grid whose first level is beyond every input
    ruled.inputs = lambda name: nothing if ".layers." in name else None
    silent = InMemory("llama")
    for name in silent.names:
        if ".layers." in name and "proj" in name:
            silent.parameters[name] = mx.zeros_like(silent.parameters[name])
    results = []
    for source in (ruled, silent, weights):
        walk = Walk(source, host=True)
        walk.run(batches(), "")
        results.append(np.array(walk.head(0, slice(None))))
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)
    assert np.abs(results[0] - results[2]).max() > 0.01


def logits_of(walk, track):
    return [walk.head(index, slice(None), track) for index in range(3)]


@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_recipes_that_walk_together_get_what_each_gets_alone(architecture, host):
    """To the last bit: other weights, and the same weights with rounded activations."""
    first, second = InMemory(architecture, 0), InMemory(architecture, 1)
    together = Walk(first, Rounded(first), second, host=host)
    together.run(batches(), "")
    for track, alone in enumerate((Walk(first, host=host), Walk(Rounded(first), host=host), Walk(second, host=host))):
        alone.run(batches(), "")
        for mine, other in zip(logits_of(together, track), logits_of(alone, 0), strict=True):
            assert mx.array_equal(mine, other)
        assert together.weights_sha256(track) == alone.weights_sha256()
    assert together.weights_sha256(0) == together.weights_sha256(1) != together.weights_sha256(2)
    assert not mx.array_equal(*(together.head(0, slice(None), track) for track in (0, 1)))


def test_the_weights_of_a_layer_are_read_once_for_all_that_share_them():
    first, second = InMemory("llama", 0), InMemory("llama", 1)
    walk = Walk(first, Rounded(first), second, host=True)
    walk.run(batches(), "")
    for weights in (first, second):
        layers = [name for name in weights.asked if ".layers." in name]
        assert sorted(layers) == sorted(name for name in weights.names if ".layers." in name)
    held = [array.size for name, array in tree_flatten(walk._model.parameters()) if ".layers." in name]
    assert sum(held) == 0


def test_recipes_may_be_asked_in_any_order():
    walk = Walk(InMemory("llama", 0), InMemory("llama", 1), host=True)
    walk.run(batches(), "")
    there = [np.array(walk.head(0, slice(None), track)) for track in (0, 1)]
    back = [np.array(walk.head(0, slice(None), track)) for track in (1, 0)]
    np.testing.assert_array_equal(there, back[::-1])


def test_a_recipe_whose_numbers_end_leaves_the_others_alone():
    broken, whole = InMemory("llama", 0), InMemory("llama", 1)
    name = next(name for name in broken.names if "layers.1.mlp.down_proj" in name)
    broken.parameters[name] = mx.full(broken.parameters[name].shape, mx.nan)
    walk, alone = Walk(broken, whole, host=True), Walk(whole, host=True)
    walk.run(batches(), "")
    alone.run(batches(), "")
    assert not [name for name in broken.asked if ".layers.2." in name]
    for mine, other in zip(logits_of(walk, 1), logits_of(alone, 0), strict=True):
        assert mx.array_equal(mine, other)
    with pytest.raises(WeightError, match="Decoder layer 1 gives values that are no numbers"):
        walk.head(0, slice(None), 0)
    assert walk.vocabulary == alone.vocabulary


def test_where_all_end_the_walk_ends():
    weights = [InMemory("llama", seed) for seed in (0, 1)]
    for each in weights:
        name = next(name for name in each.names if "layers.0.mlp.down_proj" in name)
        each.parameters[name] = mx.full(each.parameters[name].shape, mx.nan)
    with pytest.raises(WeightError, match="Decoder layer 0"):
        Walk(*weights, host=True).run(batches(), "")
