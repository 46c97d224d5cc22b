"""Keys that a config.json leaves out: Transformers' value, not the one that mlx-lm's module takes for granted."""

import dataclasses
import json

import pytest
from small_models import CONFIGS, HEADS

from pytest_quantbench.checkpoints.omitted_keys import OMITTED, with_omitted
from pytest_quantbench.engines.mlx.config_reads import engine_module, reads
from pytest_quantbench.engines.mlx.rope_check import turning_of
from pytest_quantbench.engines.mlx.skeleton import skeleton

# Keys whose value shows in the names and shapes of the weights, or that another place settles.
SHOWN = {
    *("hidden_size", "num_hidden_layers", "intermediate_size", "moe_intermediate_size", "vocab_size", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "num_experts", "num_shared_experts", "num_dense_layers"),
    *("first_k_dense_replace", "moe_layer_start_index", "moe_num_shared_experts", "attention_bias"),
    *("linear_num_value_heads", "linear_key_head_dim", "num_kv_shared_layers", "use_double_wide_mlp"),
    *("max_position_embeddings", "tie_word_embeddings", "model_type", "layer_types", "mamba_dt_rank"),
    *("mamba_chunk_size", "mamba_d_head", "mamba_d_ssm", "mamba_d_state", "mamba_n_heads"),
}
CHECKED = (
    *("afmoe", "bitnet", "cohere", "cohere2", "deepseek_v3", "falcon_h1", "gemma", "gemma2", "gemma3_text", "glm4"),
    *("gpt2", "gpt_neox", "granite", "llama", "minicpm3", "mistral", "mixtral", "nemotron", "olmo2", "olmoe", "phi"),
    *("phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "smollm3", "stablelm", "starcoder2"),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", CHECKED)
def test_what_the_two_libraries_take_for_granted_is_known(model_type):
    mapping = pytest.importorskip("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    theirs = json.loads(mapping[model_type]().to_json_string(use_diff=False))
    ropes = theirs.get("rope_parameters") or {}
    theirs |= {key: ropes[key] for key in ("rope_theta", "partial_rotary_factor") if key in ropes}
    config = {"model_type": model_type}
    fields = {field.name: field.default for field in dataclasses.fields(engine_module(config).ModelArgs)}
    for key in (reads(config).top & fields.keys() & theirs.keys()) - SHOWN:
        value, ours = theirs[key], fields[key]
        if value is not None and ours is not dataclasses.MISSING and ours is not None and ours != value:
            assert OMITTED[model_type][key] == value, key


def test_what_is_left_out_is_filled_in_and_what_is_said_stays():
    assert with_omitted({"model_type": "qwen2"})["rope_theta"] == 10000.0
    assert with_omitted({"model_type": "qwen2", "rope_theta": 7.0})["rope_theta"] == 7.0
    assert "rope_theta" not in with_omitted({"model_type": "qwen2", "rope_parameters": {"rope_theta": 7.0}})
    text = with_omitted({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}})["text_config"]
    assert text["sliding_window"] == 4096


def test_a_model_without_a_base_has_that_of_transformers():
    config = {key: value for key, value in CONFIGS["qwen2"].items() if key != "rope_theta"}
    modules = [module for _, module in skeleton(config, HEADS).named_modules() if turning_of(module) is not None]
    assert {module.base for module in modules} == {10000.0}
