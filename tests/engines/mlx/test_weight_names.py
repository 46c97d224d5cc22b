"""Each form in which the Hub publishes an architecture's tensors: tied and untied, alone and beside other senses."""

import json

import mlx.core as mx
import numpy as np
import pytest
from builders import open_model
from mlx.utils import tree_flatten, tree_unflatten
from small_models import CONFIGS, HEADS

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.pipeline import reference
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.engines.mlx.walk import Walk
from pytest_quantbench.errors import ModelError

TOKENS = mx.array([[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]])
PLAIN, WRAPPED, NEWER = "model.", "language_model.model.", "model.language_model."
OTHERS = {"vision_tower.patch.weight": (3, 3), "multi_modal_projector.norm.weight": (3,)}


def weights_of(architecture, *, tied, **changes):
    """Names as in a text model of its own, and the logits of that model."""
    model = skeleton(CONFIGS[architecture] | changes, [] if tied else HEADS)
    mx.random.seed(1)
    weights = {name: mx.random.normal(array.shape) * 0.1 for name, array in tree_flatten(model.parameters())}
    model.update(tree_unflatten(list(weights.items())))
    return weights, np.array(model(TOKENS))


def directory_with(path, config, weights, tokenizer=None):
    path.mkdir()
    mx.save_safetensors(str(path / "model.safetensors"), weights)
    (path / "config.json").write_text(json.dumps(config))
    return path


def logits(directory):
    """Through the walk, of the reference."""
    walk = Walk(reference(open_model(directory), recipe("bf16"), directory), host=False)
    walk.run([TOKENS], "")
    return np.array(walk.head(0, slice(None)))


def prefixed(weights, prefix, head="lm_head."):
    return {name.replace("model.", prefix, 1).replace("lm_head.", head, 1): array for name, array in weights.items()}


@pytest.mark.parametrize("senses", [False, True])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("architecture", "prefix", "head", "front"),
    [
        ("gemma3_text", PLAIN, "lm_head.", ""),
        ("gemma3_text", WRAPPED, "language_model.lm_head.", ""),
        ("gemma3_text", NEWER, "lm_head.", "model."),
        ("gemma3", WRAPPED, "language_model.lm_head.", ""),
        ("gemma3", NEWER, "lm_head.", "model."),
        ("gemma3", PLAIN, "lm_head.", "model."),
    ],
)
def test_gemma_3_in_every_form(tmp_path, architecture, prefix, head, front, tied, senses):
    weights, expected = weights_of("gemma3_text", tied=tied)
    stored = prefixed(weights, prefix, head)
    if senses:
        stored |= {front + name: mx.zeros(shape) for name, shape in OTHERS.items()}
    model = open_model(directory_with(tmp_path / "model", CONFIGS[architecture], stored))
    assert any(name.endswith("lm_head.weight") for name in model.names) != tied
    np.testing.assert_allclose(logits(model.checkpoint.directory), expected, atol=1e-4)


@pytest.mark.parametrize("said", [True, False, None])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "phi3", "gemma3_text"])
@pytest.mark.parametrize("tied", [True, False])
def test_an_output_head_is_what_is_stored(tmp_path, architecture, tied, said):
    """What the config leaves out, the weights say; what it says wrongly is refused."""
    config = {key: value for key, value in CONFIGS[architecture].items() if key != "tie_word_embeddings"}
    made = weights_of(architecture, tied=tied, tie_word_embeddings=tied)
    directory = directory_with(
        tmp_path / "model", config | ({} if said is None else {"tie_word_embeddings": said}), made[0]
    )
    if said in (tied, None) or (architecture == "gemma3_text" and tied):  # Gemma 3 goes by what is stored
        np.testing.assert_allclose(logits(directory), made[1], atol=1e-4)
    else:
        with pytest.raises(ModelError, match="lacks lm_head.weight" if tied else "tie_word_embeddings = true"):
            open_model(directory)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_a_tied_head_that_is_stored_once_more_is_no_matrix_of_its_own(tmp_path, architecture):
    weights, expected = weights_of(architecture, tied=True, tie_word_embeddings=True)
    stored = weights | {"lm_head.weight": mx.array(weights["model.embed_tokens.weight"])}
    config = CONFIGS[architecture] | {"tie_word_embeddings": True}
    directory = directory_with(tmp_path / "model", config, stored)
    assert "lm_head.weight" not in open_model(directory).names
    np.testing.assert_allclose(logits(directory), expected, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_biases_are_read_or_refused(tmp_path, tied):
    config = {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": tied}
    weights, expected = weights_of("llama", tied=tied, **config)
    directory = directory_with(tmp_path / "with", CONFIGS["llama"] | config, weights)
    np.testing.assert_allclose(logits(directory), expected, atol=1e-4)
    silent = directory_with(tmp_path / "silent", CONFIGS["llama"] | {"tie_word_embeddings": tied}, weights)
    with pytest.raises(ModelError, match=r"has model\.layers\.0\.mlp\.down_proj\.bias"):
        open_model(silent)
    bare = {name: array for name, array in weights.items() if not name.endswith("bias")}
    with pytest.raises(ModelError, match=r"lacks model\.layers\.0\.mlp\.down_proj\.bias"):
        open_model(directory_with(tmp_path / "bare", CONFIGS["llama"] | config, bare))


def test_tensors_are_read_again_from_a_model_that_changed_itself(tmp_path):
    weights, _ = weights_of("gemma3_text", tied=True)
    model = open_model(directory_with(tmp_path / "model", CONFIGS["gemma3_text"], weights))
    for _ in range(3):
        assert mx.array_equal(model.tensor("model.norm.weight"), weights["model.norm.weight"])


@pytest.mark.parametrize(
    ("architecture", "changes", "missing"),
    [
        ("llama", {}, "model.norm.weight"),
        ("mixtral", {"num_local_experts": 2}, "model.layers.0.block_sparse_moe.experts.1.w1"),
    ],
)
def test_a_tensor_that_is_missing_is_no_key_error(tmp_path, architecture, changes, missing):
    config = CONFIGS["llama"] | {"model_type": architecture} | changes
    model = skeleton(config, HEADS)
    weights = {}
    for name, array in tree_flatten(model.parameters()):
        new = (
            name.replace("switch_mlp.gate_proj", "w1")
            .replace("switch_mlp.up_proj", "w3")
            .replace("switch_mlp.down_proj", "w2")
        )
        if new == name:
            weights[name] = mx.zeros(array.shape)
        else:
            front, _, part = new.rpartition("block_sparse_moe.")
            weights |= {f"{front}block_sparse_moe.experts.{e}.{part}": mx.zeros(array.shape[1:]) for e in range(2)}
    whole = dict(weights)
    weights = {name: array for name, array in weights.items() if not name.startswith(missing)}
    assert len(weights) == len(whole) - 1
    open_model(directory_with(tmp_path / "whole", config, whole))
    with pytest.raises(ModelError, match=r"model\.norm|experts\.1\.w1"):
        open_model(directory_with(tmp_path / "lacking", config, weights))


def test_a_wrapped_model_without_its_text_model_is_refused(tmp_path):
    weights = {f"vision_tower.{layer}.weight": mx.zeros((2, 3000)) for layer in range(9)}
    with pytest.raises(ModelError, match="cannot take these weights"):
        open_model(directory_with(tmp_path / "model", CONFIGS["gemma3"], weights))


@pytest.mark.parametrize("said", [[], "yes", 1])
def test_a_head_that_is_neither_tied_nor_untied_is_refused(said):
    with pytest.raises(ModelError, match="neither true nor false"):
        skeleton(CONFIGS["llama"] | {"tie_word_embeddings": said}, HEADS)
