"""A checkpoint as mlx-lm sees it: names, types, shapes, and what each parameter is there for."""

import json

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from builders import open_model

from pytest_quantbench.errors import ModelError, WeightError


def test_names_types_and_tensors(small_model):
    model = open_model(small_model())
    assert model.dtype == "bfloat16"
    assert "model.layers.2.mlp.down_proj.weight" in model.names
    assert model.tensor("model.layers.0.self_attn.q_proj.weight").shape == (64, 64)


def test_a_tensor_can_be_read_again_and_again(small_model):
    model = open_model(small_model())
    first, second = (model.tensor("model.norm.weight") for _ in range(2))
    assert mx.array_equal(first, second)


def test_an_array_has_the_type_and_the_values_that_are_stored(small_model):
    model = open_model(small_model())
    name = "model.layers.1.mlp.up_proj.weight"
    found = model.array(name)
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.astype(np.float32), np.array(model.tensor(name).astype(mx.float32)))


@pytest.mark.parametrize("value", [mx.nan, mx.inf, -mx.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(small_model, value):
    directory = small_model()
    weights = mx.load(str(directory / "model.safetensors"))
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name][3, 5] = value
    mx.save_safetensors(str(directory / "changed.safetensors"), weights)
    (directory / "changed.safetensors").rename(directory / "model.safetensors")
    model = open_model(directory)
    with pytest.raises(WeightError, match=r"layers\.1\.mlp\.up_proj\.weight of .* has NaN or infinite values"):
        model.array(name)
    assert model.array("model.norm.weight").shape == (64,)


def kinds(model):
    return {each.path.removeprefix(model.layers[0]): each.kind for each in model.parameters if each.layer in (0, None)}


def test_what_each_parameter_is_there_for(small_model):
    model = open_model(small_model("qwen2_moe"))
    assert model.layers == [f"model.layers.{layer}." for layer in range(3)]
    found = kinds(model)
    assert found["model.embed_tokens.weight"] == "embedding"
    assert found["lm_head.weight"] == found["self_attn.q_proj.weight"] == "linear"
    assert found["mlp.switch_mlp.up_proj.weight"] == "experts"
    assert found["mlp.gate.weight"] == found["mlp.shared_expert_gate.weight"] == "router"
    assert found["input_layernorm.weight"] == found["self_attn.q_proj.bias"] == "other"
    assert {each.owner for each in model.parameters if each.kind == "experts"} == {"SwitchLinear"}


def test_a_bias_of_experts_and_a_stack_that_is_none(small_model):
    assert kinds(open_model(small_model("gpt_oss")))["mlp.experts.up_proj.bias"] == "expert bias"
    assert "foreign" in kinds(open_model(small_model("deepseek_v3"))).values()


def test_weights_that_are_whole_numbers_are_none(small_model):
    directory = small_model(dtype=mx.float16)
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"F16"', b'"I16"', 1))  # one byte, and all sizes still fit
    with pytest.raises(ModelError, match=r"is stored as mlx\.core\.int16: these are no weights"):
        open_model(directory)


def widen(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"intermediate_size": 256}))


def deepen(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))


def flatten(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [(widen, "config.json says"), (deepen, "lacks model.layers.3"), (flatten, "has model.layers.2")],
)
def test_weights_of_another_model_are_refused_by_name(small_model, damage, message):
    directory = small_model()
    damage(directory)
    with pytest.raises(ModelError, match=message):
        open_model(directory)
