"""Which configs are taken as they stand, and which keys are refused by name."""

import json

import pytest
from published_configs import CATALOGUE, FAMILIES
from small_models import CONFIGS, HEADS, shared

from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY
from pytest_quantbench.engines.mlx.config_reads import engine_module, reads
from pytest_quantbench.engines.mlx.skeleton import skeleton
from pytest_quantbench.errors import ModelError

PUBLISHED = CATALOGUE | FAMILIES
HUNYUAN = FAMILIES["tencent/Hunyuan-1.8B-Instruct"]


def newer(config):
    """The same config as Transformers 5 writes it."""
    mapping = pytest.importorskip("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    given = {
        key: value for key, value in json.loads(json.dumps(config)).items() if key not in ("model_type", "auto_map")
    }
    return json.loads(mapping[config["model_type"]](**given).to_json_string(use_diff=True))


def test_the_catalogues_models_are_all_here():
    assert {model.source for model in MODELS.values() if not model.local} == set(CATALOGUE)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_taken_as_it_stands(name):
    skeleton(PUBLISHED[name], HEADS)


def test_hidden_activation_counts_where_hidden_act_says_otherwise():
    gemma = FAMILIES["google/gemma-1.1-2b-it"]
    called = reads(gemma).functions
    assert "gelu_approx" in called
    assert "gelu" not in called
    assert "gelu" in reads(gemma | {"hidden_activation": "gelu"}).functions


RENAMED = {"ibm-granite/granite-4.0-h-micro"}  # Transformers 5 names its layers' kinds as mlx-lm's module does not


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in RENAMED])
def test_a_published_config_is_taken_as_transformers_5_writes_it(name):
    config = newer(PUBLISHED[name])
    assert "rope_theta" not in config
    skeleton(config, HEADS)


def test_models_at_hand_are_taken():
    for directory in (TINY_DIRECTORY, shared("stories260k")):
        skeleton(json.loads((directory / "config.json").read_text()), HEADS)


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"final_logit_softcapping": 30.0}),
        ("llama", {"logit_scale": 0.5}),
        ("llama", {"residual_multiplier": 0.2}),
        ("llama", {"clip_qkv": 8.0}),
        ("llama", {"num_loops": 2}),
        ("llama", {"use_parallel_residual": True}),
        ("llama", {"alibi": True}),
        ("llama", {"use_rope": False}),
        ("llama", {"layer_norm_eps": 1e-3}),
        ("llama", {"query_pre_attn_scalar": 7}),
        ("llama", {"something_new": 2}),
        ("llama", {"output_multiplier_scale": 0.5}),
        ("llama", {"output_scale": 0.5}),
        ("llama", {"output_logit_scale": 0.1}),
        ("llama", {"output_multiplier": 2}),
        ("llama", {"init_scale": 0.5}),
        ("llama", {"lambda_init": 0.8}),
        ("llama", {"time_step_limit": [0.1, 0.2]}),
        ("llama", {"logit_scale": 0}),
        ("llama", {"residual_multiplier": 0.0}),
        ("llama", {"routed_scaling_factor": 0}),
        ("llama", {"generation_logit_scale": 0.5}),
        ("llama", {"fused_output_scale": 0.5}),
        ("llama", {"hidden_scale_size": 2}),
        ("llama", {"rope_version": "xpos"}),
        ("llama", {"num_active_experts": 2}),
        ("llama", {"interpolate_factor": 4}),
        ("llama", {"full_attn_mod": 2}),
        ("llama", {"use_pos_enc": True}),
        ("qwen2", {"partial_rotary_factor": 0.5}),
        ("phi3", {"logits_scaling": 8.0}),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}),
        ("gemma3_text", {"hidden_activation": "silu"}),
    ],
)
def test_a_key_that_changes_the_arithmetic_and_is_not_read_is_named(architecture, change):
    with pytest.raises(ModelError, match=next(iter(change))):
        skeleton(CONFIGS[architecture] | change, HEADS)


def test_layers_that_share_keys_are_refused_with_how_many_do():
    with pytest.raises(ModelError, match="cla"):
        skeleton(HUNYUAN | {"use_cla": True, "cla_share_factor": 2}, HEADS)


@pytest.mark.parametrize("key", ["max_position_embeddings", "n_ctx", "sliding_window"])
def test_a_length_that_is_no_number_is_refused(key):
    with pytest.raises(ModelError, match=f"config.json says {key} = '256', and it has to be a number of tokens"):
        skeleton(CONFIGS["llama"] | {key: "256"}, HEADS)


def test_a_key_in_the_table_of_text_is_named_too():
    text = CONFIGS["gemma3"]["text_config"] | {"final_logit_softcapping": 10.0}
    with pytest.raises(ModelError, match=r"'gemma3' does not read 'final_logit_softcapping'.*copy"):
        skeleton(CONFIGS["gemma3"] | {"text_config": text}, HEADS)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "silu", "attention_dropout": 0.1, "use_cache": True, "torch_dtype": "float16"},
        {"final_logit_softcapping": None, "something_new": None, "something_else": False, "a_list": []},
        {"logit_scale": 1.0, "query_pre_attn_scalar": 16, "norm_eps": 1e-5, "attention_multiplier": 0.25},
        {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 3},
        {"time_step_limit": [0.0, float("inf")], "mlp_init_scale": 0.5, "router_aux_loss_scale": 0.1, "softcap": 0},
        {"time_step_limit": [0.0, {"__float__": "Infinity"}]},
        {"final_w_init_variance_scale": 0.08, "w_init_variance_scale": 0.01},  # RecurrentGemma
        {"output_attentions": True, "init_std": 0.02, "init_device": "meta", "vision_feature_scale": 2, "pad_id": 3},
        {"cla_share_factor": 2, "use_cla": False, "im_start_id": 4, "text_end_id": 7, "norm_type": "rms"},
        {"vision_config": {"hidden_size": 3}, "image_token_id": 7, "router_aux_loss_coef": 0.1},
    ],
)
def test_keys_that_change_nothing_are_taken(change):
    skeleton(CONFIGS["qwen2"] | change, HEADS)


def test_a_key_that_is_declared_and_not_used_is_not_read():
    """Mixtral's and Qwen3-MoE's arguments have `rope_scaling`, and nothing takes it from them."""
    assert "rope_scaling" not in reads({"model_type": "mixtral"}).top
    assert "rope_scaling" in reads({"model_type": "llama"}).top
    assert "rope_scaling" in reads({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}).text


def test_of_several_text_models_the_one_that_is_named_counts():
    keys = {
        kind: reads({"model_type": "mistral3", "text_config": {"model_type": kind}}) for kind in ("llama", "ministral3")
    }
    assert "rope_parameters" in keys["ministral3"].text
    assert "rope_parameters" not in keys["llama"].text


def test_a_module_that_leaves_the_interpreter_is_an_error():
    with pytest.raises(ModelError, match=r"'olmo' cannot be loaded: To run olmo install ai2-olmo"):
        skeleton({"model_type": "olmo"}, [])


def test_a_package_that_mlx_lms_module_misses_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'flax'", name="flax")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ModelError, match="'llama' needs the package 'flax', which is not installed"):
        engine_module({"model_type": "llama"})


def test_an_architecture_in_two_versions_is_told_apart_by_its_class():
    config = {"model_type": "bailing_hybrid", "architectures": ["BailingMoeV3ForCausalLM"]}
    assert engine_module(config).__name__.endswith("bailing_moe_v3")
    assert engine_module({"model_type": "bailing_hybrid"}).__name__.endswith("bailing_hybrid")
