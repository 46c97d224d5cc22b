"""Small configs for architectures of mlx-lm: values by the names of fields, and own ones where these do not do."""

from collections.abc import Mapping
from typing import Any

LAYERS, HIDDEN, HEADS, KEY_HEADS, HEAD = 6, 64, 4, 2, 16
PLAUSIBLE: dict[str, Any] = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_transformer_layers"), LAYERS),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "hidden_dim", "model_dim", "block_dim"), HIDDEN),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "n_kv_heads", "num_kv_heads"), KEY_HEADS),
    **dict.fromkeys(("head_dim", "global_head_dim", "qk_nope_head_dim", "v_head_dim", "kv_lora_rank"), HEAD),
    **dict.fromkeys(("q_lora_rank", "index_head_dim", "linear_key_head_dim", "linear_value_head_dim"), HEAD),
    **dict.fromkeys(("mamba_head_dim", "swa_head_dim", "swa_v_head_dim", "state_size", "ssm_state_size"), HEAD),
    **dict.fromkeys(("a_low_rank_dim", "v_low_rank_dim", "gate_low_rank_dim", "decay_low_rank_dim"), HEAD),
    **dict.fromkeys(("linear_num_value_heads", "mamba_num_heads", "swa_num_attention_heads", "index_n_heads"), HEADS),
    **dict.fromkeys(("linear_num_key_heads", "swa_num_key_value_heads"), KEY_HEADS),
    **dict.fromkeys(("intermediate_size", "ffn_hidden_size", "ff_intermediate_size", "intermediate_size_mlp"), 128),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("shared_intermediate_size", "block_ff_dim", "n_inner", "dim_model_base"), 64),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "index_topk", "zero_expert_num"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "num_shared_expert", "first_k_dense_replace"), 1),
    **dict.fromkeys(("n_group", "topk_group", "n_groups", "decoder_sparse_step", "moe_layer_freq"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "model_max_length", "block_size"), 256),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_eps", "layernorm_epsilon"), 1e-5),
    **dict.fromkeys(("rope_theta", "swa_rope_theta", "rotary_emb_base"), 10000.0),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size"), 8),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct"), 0.5),
    **dict.fromkeys(("conv_kernel", "conv_L_cache", "linear_conv_kernel_dim", "conv1d_width", "time_step_rank"), 4),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), 8),
    "vocab_size": 512,
    "mlp_only_layers": [],
    "tie_word_embeddings": False,
    "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
}
BY_TYPE: Mapping[Any, Any] = {bool: False, float: 1.0, int: 2, str: "", "dict": {}}

# What a field's name does not tell. A text_config is filled in from the architecture that it names.
_TYPES = ["sliding_attention", "full_attention"] * (LAYERS // 2)
_STATES = ["linear_attention", "full_attention"] * (LAYERS // 2)
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
_YARN = {
    "rope_type": "yarn",
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "rope_theta": 10000.0,
    "llama_4_scaling_beta": 0.1,
}
_LINEAR = {"kda_layers": [1, 3, 5], "full_attn_layers": [2, 4, 6], "num_heads": 4, "head_dim": 16} | {
    "short_conv_kernel_size": 4
}
_MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
_EXPERTS = {"num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1}
_QWEN_NEXT = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
    "rope_parameters": _ROPE,
}
_LLAMA = {"model_type": "llama"}
OWN: dict[str, dict[str, Any]] = {
    "afm7": {"num_kv_reuse_layers": 2},
    "apertus": {"qk_norm": True},
    "baichuan_m1": {"sliding_window_layers": [1, 3, 5], "conv_window": 2},
    "bailing_hybrid": {"layer_group_size": 2},
    "bailing_moe_linear": {"layer_group_size": 2},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 128, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"rope_scaling": _YARN},
    "deepseek_v41": {"o_groups": 2, "o_lora_rank": 16, "head_dim": 32, "qk_rope_head_dim": 8},
    "exaone4": {"sliding_window_pattern": "LLLG", "rope_scaling": None},
    "exaone_moe": {"is_moe_layer": [False, *[True] * (LAYERS - 1)], "layer_types": _TYPES},
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3": {"text_config": {"model_type": "gemma3_text", "sliding_window_pattern": 3}},
    "gemma3_text": {"sliding_window_pattern": 3},
    "gemma3n": {
        "text_config": {
            "model_type": "gemma3n_text",
            "hidden_size": 64,
            "num_hidden_layers": 6,
            "intermediate_size": [128] * 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "vocab_size": 512,
            "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": 512,
            "sliding_window": 8,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 256,
            "rope_local_base_freq": 1e4,
            "rope_theta": 1e6,
            "laurel_rank": 8,
            "final_logit_softcapping": 30.0,
            "layer_types": _TYPES,
            "activation_sparsity_pattern": [0.5] + [0.0] * 5,
            "hidden_size_per_layer_input": 16,
            "altup_num_inputs": 4,
            "altup_coef_clip": 120.0,
            "altup_correct_scale": True,
            "altup_active_idx": 0,
        }
    },
    "gemma4": {"text_config": {"model_type": "gemma4_text"}},
    "gemma4_text": {"layer_types": _TYPES, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 16}
    | {"vocab_size_per_layer_input": 512},
    "glm_moe_dsa": {"rope_parameters": _ROPE, "scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    "glm4_moe": {"rope_scaling": None},
    "gpt_bigcode": {"multi_query": True},
    "gpt_oss": {"layer_types": _TYPES},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 3, "position_embedding_type": "rope"}
    | {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_d_conv": 4}
    | {"mamba_chunk_size": 8, "mamba_expand": 2, "num_experts_per_tok": 2, "shared_intermediate_size": 64},
    "hunyuan": {"cla_share_factor": 2, "use_cla": True, "use_mixed_mlp_moe": True}
    | {"rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 1000.0}},
    "iquestloopcoder": {"loop_num": 2, "loop_window_size": 8},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1, "expert_layer_period": 2}
    | {"mamba_d_conv": 4, "mamba_d_state": 16, "mamba_expand": 2, "mamba_dt_rank": 4},
    "kimi_k25": {"text_config": {"model_type": "deepseek_v3"}},
    "kimi_k3": {
        "text_config": {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 4}
        | {"intermediate_size": 128, "vocab_size": 512, "linear_attn_config": _LINEAR, "activation_situ_beta": 4.0}
        | {"activation_situ_linear_beta": 25.0, "attn_res_block_size": 2, "routed_expert_hidden_size": 32}
        | _MLA
        | _EXPERTS
    },
    "kimi_linear": {"linear_attn_config": _LINEAR} | _MLA | _EXPERTS,
    "kimi_vl": {"text_config": {"model_type": "deepseek_v3"}},
    "lfm2": {"full_attn_idxs": [1, 3, 5], "block_ff_dim": 128, "block_auto_adjust_ff_dim": False, "conv_L_cache": 3},
    "lfm2_moe": {"full_attn_idxs": [1, 3, 5], "num_dense_layers": 1, "conv_L_cache": 3, "use_expert_bias": True},
    "lfm2-vl": {"text_config": {"model_type": "lfm2"}},
    "llama4": {
        "text_config": {"model_type": "llama4_text", "attention_chunk_size": 8, "interleave_moe_layer_step": 2}
        | {"attention_bias": False, "max_position_embeddings": 256, "num_experts_per_tok": 1, "num_local_experts": 4}
        | {"rope_scaling": None}
    },
    "llama4_text": {"no_rope_layers": [1, 1, 1, 0, 1, 1]},
    "longcat_flash": {"mla_scale_q_lora": True, "mla_scale_kv_lora": True, "attention_method": "MLA"}
    | {"zero_expert_type": "identity"},
    "longcat_flash_ngram": {"mla_scale_q_lora": True, "mla_scale_kv_lora": True, "zero_expert_type": "identity"},
    "mamba2": {"time_step_limit": [0.0, 100.0], "num_heads": 8, "head_dim": 16, "expand": 2, "use_conv_bias": True},
    "mellum": {"rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE}},
    "mimo_v2_flash": {"moe_layer_freq": [0, *[1] * (LAYERS - 1)], "hybrid_layer_pattern": [0, 1] * (LAYERS // 2)}
    | {
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "partial_rotary_factor": 0.5,
        "routed_scaling_factor": 1.0,
    },
    "minicpm3": {
        "rope_scaling": {"type": "longrope", "original_max_position_embeddings": 64}
        | {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    },
    "minimax": {"scoring_func": "sigmoid"},
    "minimax_m3_vl": {
        "text_config": {"hidden_size": 64, "intermediate_size": 64, "dense_intermediate_size": 128}
        | {"shared_intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 6}
        | {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "vocab_size": 512, "rotary_dim": 8}
    },
    "ministral3": {"rope_parameters": _YARN, "layer_types": _TYPES},
    "mistral3": {"text_config": {"model_type": "ministral3"}},
    "mistral4": {"rope_parameters": _YARN},
    "nanbeige": {"num_loops": 2},
    "nemotron": {"hidden_act": "relu2"},
    "nemotron-nas": {
        "block_configs": [
            {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 2.0}},
            {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}},
            {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
        ]
        * (LAYERS // 3)
    },
    "nemotron_h": {"hybrid_override_pattern": ["M", "*", "-", "M", "*", "-"], "head_dim": 16, "num_hidden_layers": 6}
    | {"mamba_num_heads": 8, "n_groups": 2},
    "olmo3": {"layer_types": _TYPES},
    "olmo_hybrid": {"layer_types": _STATES},
    "openelm": {"num_query_heads": [4] * LAYERS, "num_kv_heads": [2] * LAYERS, "ffn_multipliers": [2.0] * LAYERS}
    | {"ffn_dim_divisor": 16},
    "phi3small": {"dense_attention_every_n_layers": 2, "gegelu_limit": 20.0, "vocab_size": 100352},
    "pixtral": {"text_config": _LLAMA},
    "plamo": {"n_shared_head": 2},
    "qwen": {"kv_channels": 16},
    "qwen2_vl": {"text_config": {"model_type": "qwen2"}},
    "qwen3_5": {"text_config": {"model_type": "qwen3_5_text"}},
    "qwen3_5_moe": {"text_config": {"model_type": "qwen3_5_moe_text", "num_experts": 4, "num_experts_per_tok": 2}},
    "qwen3_next": {"full_attention_interval": 2, "partial_rotary_factor": 0.5},
    "qwen3": {"rope_theta": 10000.0},
    "qwen3_vl": {"text_config": {"model_type": "qwen3"}},
    "qwen3_vl_moe": {"text_config": {"model_type": "qwen3_moe"}},
    "recurrent_gemma": {"block_types": ["recurrent", "recurrent", "attention"], "lru_width": 64},
    "spark2_5": {"rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE}, "layer_types": _TYPES},
    "stablelm": {"partial_rotary_factor": 0.5},
    "step3p5": {"num_attention_groups": 2, "layer_types": _TYPES, "moe_num_experts": 4, "moe_top_k": 2}
    | {"moe_intermediate_size": 32, "share_expert_dim": 32, "moe_layers_enum": "1,2,3,4,5"},
}
NESTED = {  # text configs of an architecture that has no module of its own
    kind: {
        "hidden_size": 64,
        "num_hidden_layers": 6,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "head_dim": 16,
    }
    | {"num_key_value_heads": 2, "vocab_size": 512, "rms_norm_eps": 1e-6, "max_position_embeddings": 256}
    | {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "tie_word_embeddings": False}
    | _QWEN_NEXT
    for kind in ("qwen3_5_text", "qwen3_5_moe_text")
}
