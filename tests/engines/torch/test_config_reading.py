"""config.json as Transformers reads it: published ones as they are, and none of which something would be left out."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from published_configs import CATALOGUE, FAMILIES
from transformers_models import REFUSED, SMALL, save

from pytest_quantbench import engines
from pytest_quantbench.engines.torch.config_reading import understood
from pytest_quantbench.engines.torch.rope_check import check_ropes, turned
from pytest_quantbench.engines.torch.skeleton import decoder_layers, skeleton, stored_turned
from pytest_quantbench.errors import ModelError

LLAMA = SMALL["llama-defaults"][1] | {"model_type": "llama"}
PUBLISHED = CATALOGUE | FAMILIES


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read_as_they_are(name):
    model = skeleton(PUBLISHED[name])
    path, layers = decoder_layers(model)
    table = PUBLISHED[name].get("text_config", PUBLISHED[name])
    said = [table[key] for key in ("num_hidden_layers", "n_layer") if key in table]
    assert len(layers) in said
    assert all(held.is_meta for held in model.parameters())
    assert not any(held.is_meta for held in model.buffers() if held.is_floating_point())
    assert not model.training
    assert model.get_submodule(path) is layers


@pytest.mark.parametrize("scaling", [{"type": "linear", "factor": 8.0}, {"rope_type": "linear", "factor": 8.0}])
def test_every_spelling_of_scaled_positions_counts(scaling):
    """Transformers reads nothing of the older one for Gemma 3."""
    config = CATALOGUE["google/gemma-3-4b-it"]
    config = config | {"text_config": config["text_config"] | {"rope_scaling": scaling}}
    found = {each.layer_type: each.turning.frequencies[0] for each in turned(skeleton(config))}
    assert found == {"full_attention": 1 / 8, "sliding_attention": 1.0}


def test_a_model_that_turns_otherwise_than_its_config_says_is_refused():
    config = CATALOGUE["meta-llama/Llama-3.1-8B-Instruct"]
    model = skeleton(config)
    check_ropes(model, config)
    model.model.rotary_emb.inv_freq.mul_(1.01)
    with pytest.raises(ModelError, match=r"Transformers' 'llama' does not turn positions so \(at model\.rotary_emb\)"):
        check_ropes(model, config)


REFUSALS = {
    "unknown architecture": ({"model_type": "made_up"}, "model_type 'made_up' is not one that Transformers has"),
    "no name": ({"model_type": 5}, "model_type 5 is not one that Transformers has"),
    "no language model": ({"model_type": "vit"}, "Transformers"),
    "a key that it does not have": ({"attention_scale": 3.0}, "does not read 'attention_scale', and 3.0 may change"),
    "unknown activation": ({"hidden_act": "made_up"}, "Transformers cannot build a 'llama' model .*made_up"),
    "unknown scaling": ({"rope_scaling": {"rope_type": "made_up", "factor": 2.0}}, "cannot build .*made_up"),
    "a scaling without its factor": ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
    "a part that no scaling has": (
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "bend": 3}},
        "does not read 'bend' of rotary",
    ),
    "two bases": ({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 6.0}}, "contradicts itself"),
    "text for a number": ({"hidden_size": "wide"}, "Transformers cannot read this config.json of a 'llama' model"),
    "heads that do not fit": ({"num_key_value_heads": 0}, "Transformers cannot"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_would_be_left_out_or_misread_is_refused(name):
    keys, message = REFUSALS[name]
    with pytest.raises(ModelError, match=message):
        skeleton(LLAMA | keys)


@pytest.mark.parametrize("name", REFUSED)
def test_what_mlx_lm_does_otherwise_transformers_does(tmp_path, name):
    """Those configs change what is computed here, too, and are read to the end."""
    changed, _ = REFUSED[name]
    save(tmp_path, changed, np.array([[3, 4]]))
    assert understood(json.loads((tmp_path / "config.json").read_text())) is not None


def test_numbers_that_json_has_not():
    config = {"model_type": "mamba2", "num_heads": 4, "head_dim": 16, "hidden_size": 32, "state_size": 8, "n_groups": 1}
    read = understood(config | {"time_step_limit": [0.0, {"__float__": "Infinity"}]})
    assert list(read.time_step_limit) == [0.0, float("inf")]


def test_how_long_a_text_may_be():
    engine = engines.get("torch")
    phi = engine.capacity(PUBLISHED["microsoft/Phi-3-mini-128k-instruct"])
    assert (phi.vocabulary, phi.positions) == (32064, 4096)  # as long as longrope was first trained for
    assert engine.capacity(LLAMA | {"sliding_window": 8}).positions == 256  # windows are computed
    with pytest.raises(ModelError, match="has to be a number of tokens"):
        engine.capacity(LLAMA | {"max_position_embeddings": "256"})


def test_matrices_are_out_by_in_whatever_the_code_has():
    model = skeleton({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 320})
    assert {name.split(".", 3)[-1] for name in stored_turned(model)} == {
        "attn.c_attn.weight",
        "attn.c_proj.weight",
        "mlp.c_fc.weight",
        "mlp.c_proj.weight",
    }
    assert model.transformer.h[0].mlp.c_fc.weight.shape == (256, 64)
