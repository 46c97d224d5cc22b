"""Small random models that Transformers itself makes and saves, and the older spelling of their config.json."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_HEADS = {"head_dim": 16}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 500.0,
}
ROPES = {
    "default": {"rope_type": "default", "rope_theta": 500.0},
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 500.0},
    "llama3": _LLAMA3,
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 500.0},
    "yarn-attention": {
        "rope_type": "yarn",
        "factor": 4.0,
        "attention_factor": 1.3,
        "original_max_position_embeddings": 64,
        "rope_theta": 500.0,
    },
    "yarn-mscale": {
        "rope_type": "yarn",
        "factor": 4.0,
        "mscale": 0.7,
        "beta_fast": 16.0,
        "original_max_position_embeddings": 64,
        "rope_theta": 500.0,
    },
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0 + 0.1 * place for place in range(8)],
        "long_factor": [4.0 + place for place in range(8)],
        "original_max_position_embeddings": 64,
        "rope_theta": 500.0,
    },
}
_LAYERS = ["sliding_attention", "sliding_attention", "full_attention"]
_GEMMA3 = (
    _SIZES
    | _HEADS
    | {
        "layer_types": _LAYERS,
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
        },
    }
)
_PHI3 = _SIZES | {"original_max_position_embeddings": 64}
_MOE = _SIZES | _HEADS | {"num_experts_per_tok": 2, "moe_intermediate_size": 48}
_GPT2 = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": 320}

# model_type and what its config's class is given
SMALL = {
    **{
        f"{kind}-{rope}": (
            kind,
            _SIZES | _HEADS | {"rope_parameters": ROPES[rope], "tie_word_embeddings": rope == "yarn"},
        )
        for kind in ("llama", "qwen2", "qwen3", "mistral")
        for rope in ROPES
        if (kind, rope) not in (("mistral", "dynamic"), ("llama", "dynamic"))
    },
    "llama-dynamic": ("llama", _SIZES | {"rope_parameters": ROPES["dynamic"]}),
    "llama-biases": ("llama", _SIZES | {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": ("llama", _SIZES | {"head_dim": 32, "rope_parameters": ROPES["default"]}),
    "llama-defaults": ("llama", _SIZES),
    "mistral-window-not-reached": ("mistral", _SIZES | {"sliding_window": 64}),
    "qwen2-window-on-no-layer": (
        "qwen2",
        _SIZES | {"use_sliding_window": False, "sliding_window": 4, "rope_parameters": ROPES["default"]},
    ),
    "gemma2": ("gemma2", _SIZES | _HEADS | {"query_pre_attn_scalar": 16, "rope_parameters": ROPES["default"]}),
    "gemma3_text-tied": ("gemma3_text", _GEMMA3),
    "gemma3_text-untied": ("gemma3_text", _GEMMA3 | {"tie_word_embeddings": False}),
    "gemma3-tied": ("gemma3", {"text_config": _GEMMA3}),
    "gemma3-untied": (
        "gemma3",
        {"text_config": _GEMMA3 | {"tie_word_embeddings": False}, "tie_word_embeddings": False},
    ),
    "phi3-default": ("phi3", _PHI3 | {"rope_parameters": ROPES["default"]}),
    "phi3-partial": ("phi3", _PHI3 | {"rope_parameters": ROPES["default"] | {"partial_rotary_factor": 0.5}}),
    "phi3-longrope": ("phi3", _PHI3 | {"rope_parameters": ROPES["longrope"]}),
    "mixtral": ("mixtral", _MOE | {"num_local_experts": 4, "rope_parameters": ROPES["default"]}),
    "qwen3_moe": ("qwen3_moe", _MOE | {"num_experts": 4, "rope_parameters": ROPES["default"], "norm_topk_prob": True}),
    "gpt2": ("gpt2", _GPT2),
    "gpt_neox": (
        "gpt_neox",
        _SIZES | {"intermediate_size": 256, "rope_parameters": ROPES["default"] | {"partial_rotary_factor": 0.5}},
    ),
    "gpt_neox-gelu": ("gpt_neox", _SIZES | {"intermediate_size": 256, "hidden_act": "gelu_new"}),
    "starcoder2": ("starcoder2", _SIZES | {"rope_parameters": ROPES["default"]}),
    "starcoder2-gelu": ("starcoder2", _SIZES | {"hidden_act": "gelu"}),
    "stablelm": ("stablelm", _SIZES | {"rope_parameters": ROPES["default"] | {"partial_rotary_factor": 0.25}}),
    "olmo2": ("olmo2", _SIZES | {"rope_parameters": ROPES["default"]}),
    "cohere": ("cohere", _SIZES | {"rope_parameters": ROPES["default"], "logit_scale": 0.25}),
    "granite": ("granite", _SIZES | {"rope_parameters": ROPES["default"], "embedding_multiplier": 3.0}),
}
# what tells experts their tokens stays in float32, whatever the type of all else
DEEPSEEK = (
    "deepseek_v3",
    _SIZES
    | {"n_routed_experts": 4, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_group": 2}
    | {"topk_group": 1, "num_experts_per_tok": 2, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8}
    | {"qk_nope_head_dim": 8, "v_head_dim": 16, "num_key_value_heads": 4},
)
REFUSED = {
    "mixtral-yarn": (("mixtral", _MOE | {"num_local_experts": 4, "rope_parameters": ROPES["yarn"]}), "rope_parameters"),
    "yarn-not-truncated": (
        ("llama", _SIZES | {"rope_parameters": ROPES["yarn"] | {"truncate": False}}),
        "truncate",
    ),
    "llama-gelu": (("llama", _SIZES | {"hidden_act": "gelu"}), "hidden_act"),
    "gpt2-unscaled": (("gpt2", _GPT2 | {"scale_attn_weights": False}), "scale_attn_weights"),
    "gpt2-by-layer": (("gpt2", _GPT2 | {"scale_attn_by_inverse_layer_idx": True}), "scale_attn_by_inverse_layer_idx"),
    "gemma3-irregular": (
        ("gemma3_text", _GEMMA3 | {"layer_types": ["full_attention", "full_attention", "sliding_attention"]}),
        "layer_types",
    ),
    "gemma3-soft-cap": (("gemma3_text", _GEMMA3 | {"final_logit_softcapping": 10.0}), "final_logit_softcapping"),
}


def save(directory, model, tokens):
    """Make a model with random weights, biases too, save it in float32 and return its logits (tokens, vocabulary)."""
    kind, given = model
    config = transformers.AutoConfig.for_model(kind, **given)
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        made.save_pretrained(directory)
        return made(torch.tensor(tokens)).logits[0].numpy()


def older(config):
    """The same config.json as Transformers 4 spells rotary positions."""
    config = {key: older(value) if key == "text_config" else value for key, value in config.items()}
    ropes = config.pop("rope_parameters", None)
    if ropes is None:
        return config
    if "full_attention" in ropes:
        config["rope_local_base_freq"] = ropes["sliding_attention"]["rope_theta"]
        ropes = ropes["full_attention"]
    scaling = {key: value for key, value in ropes.items() if key not in ("rope_theta", "partial_rotary_factor")}
    neox = config["model_type"] == "gpt_neox"
    config["rotary_emb_base" if neox else "rope_theta"] = ropes["rope_theta"]
    if "partial_rotary_factor" in ropes:
        config["rotary_pct" if neox else "partial_rotary_factor"] = ropes["partial_rotary_factor"]
    kind = scaling.pop("rope_type")
    return config | {"rope_scaling": None if kind == "default" else scaling | {"type": kind}}
