"""Names and shapes of a candidate against the reference's."""

import pytest
from builders import open_model

from pytest_quantbench.compress.same_shapes import refuse_other_shapes
from pytest_quantbench.errors import ModelError


@pytest.fixture
def opened(small_model):
    return open_model(small_model())


def shapes_of(opened):
    return {each.path: each.shape for each in opened.parameters}


def test_the_same_shapes_are_let_through(opened):
    refuse_other_shapes(opened, shapes_of(opened), "x.gguf")
    refuse_other_shapes(opened, {path: list(shape) for path, shape in shapes_of(opened).items()}, "x.gguf")


def test_another_model_is_refused_in_its_own_words(opened, small_model):
    other = open_model(small_model(vocab_size=1024, hidden_size=32, num_hidden_layers=2))
    with pytest.raises(ModelError) as refused:
        refuse_other_shapes(opened, shapes_of(other), "x.gguf")
    told = str(refused.value)
    assert "it has vocabulary 1024 against 2048, hidden size 32 against 64, 2 layers against 3;" in told
    assert "it lacks 9 tensors, such as model.layers.2." in told
    assert "model.embed_tokens.weight has shape (1024, 32) against (2048, 64) (and 20 more)" in told


def test_one_tensor_that_is_missing_and_one_beyond_are_named(opened):
    shapes = shapes_of(opened)
    del shapes["model.layers.1.mlp.up_proj.weight"]
    shapes["model.layers.1.mlp.up_proj.bias"] = (128,)
    with pytest.raises(ModelError) as refused:
        refuse_other_shapes(opened, shapes, "x.gguf")
    told = str(refused.value)
    assert "it lacks model.layers.1.mlp.up_proj.weight; it holds model.layers.1.mlp.up_proj.bias, which the" in told
    assert "vocabulary" not in told


def test_a_matrix_that_lies_on_its_side_is_named(opened):
    path = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(
        ModelError, match=r"up_proj\.weight has shape \(64, 128\) against \(128, 64\)\. Name the original"
    ):
        refuse_other_shapes(opened, shapes_of(opened) | {path: (64, 128)}, "x.gguf")
