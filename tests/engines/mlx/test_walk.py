import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from small_models import CONFIGS, HEADS, InMemory

from pytest_quantbench.engines.mlx.host_kernels import shown
from pytest_quantbench.engines.mlx.skeleton import decoder_layers, shapes, skeleton
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.engines.protocol import Rounded
from pytest_quantbench.errors import ModelError


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


def test_a_layer_leaves_memory_when_it_is_done():
    weights = InMemory("llama")
    walk = Walk(weights, Rounded(weights), InMemory("llama", 1), host=True)
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


def test_batches_and_recipes_of_one_length_share_the_mask_of_a_window():
    weights = InMemory("gemma3_text")
    walk = Walk(weights, Rounded(weights), host=True)
    walk.begin([mx.zeros((1, 30), mx.int32), mx.zeros((2, 30), mx.int32), mx.zeros((1, 20), mx.int32)])
    calls = [call for track in walk._calls for call in track[0]]
    masks = [each for call in calls for each in (*call.args, *call.kwargs.values()) if isinstance(each, mx.array)]
    assert [mask.shape for mask in masks] == [(30, 30), (30, 30), (20, 20)] * 2
    assert len({id(mask) for mask in masks}) == 2


def test_a_mask_is_not_copied():
    mask = mx.array(np.tri(64, dtype=bool))
    found = shown(mask, (2, 3, 64, 64))
    assert found.dtype == bool
    assert found.base is not None
    assert found.strides[:2] == (0, 0)
