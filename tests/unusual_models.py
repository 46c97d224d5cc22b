"""Small random models whose walks have something unusual, by the name that mlx-lm has for them."""

import mlx.core as mx
from mlx.utils import tree_flatten
from small_models import HEADS

from pytest_quantbench.engines.mlx.skeleton import skeleton

BASE = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "vocab_size": 512,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
}
QWEN_NEXT = {
    "model_type": "qwen3_5_text",
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
}
UNUSUAL = {  # with what T3 may do
    "gptj": (
        "any",
        {"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 128, "rotary_dim": 8} | {"layer_norm_epsilon": 1e-5},
    ),
    "apertus": ("any", {"qk_norm": True, "post_norm": False}),
    "gemma4_text": (
        "any",
        {"num_hidden_layers": 6, "layer_types": ["sliding_attention", "full_attention"] * 3}
        | {"sliding_window": 8, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 16}
        | {"vocab_size_per_layer_input": 512, "global_head_dim": 16, "tie_word_embeddings": True},
    ),
    "talkie": ("any", {}),
    "nanbeige": ("any", {"num_loops": 2}),
    "mixtral": ("any", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "lfm2": (
        "none",
        {"norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3, "block_dim": 64, "block_ff_dim": 128}
        | {"block_multiple_of": 16, "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": False}
        | {"full_attn_idxs": [1, 3]},
    ),
    "qwen3_5": ("none", {"text_config": BASE | QWEN_NEXT}),
    "mamba": (
        "none",
        {"state_size": 8, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True} | {"time_step_rank": 4},
    ),
    "recurrent_gemma": (
        "none",
        {"conv1d_width": 4, "lru_width": 64, "attention_window_size": 8}
        | {"logits_soft_cap": 30.0, "block_types": ["recurrent", "recurrent", "attention"]}
        | {"num_hidden_layers": 6, "embeddings_scale_by_sqrt_dim": True},
    ),
    "gemma2": (
        "even",
        {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0, "sliding_window": 8}
        | {"final_logit_softcapping": 30.0},
    ),
}


class Random:
    """Weights of a random model, as a walk reads them."""

    def __init__(self, config):
        self.config = config
        mx.random.seed(0)
        self.model = skeleton(config, HEADS)
        self.parameters = dict(tree_flatten(self.model.parameters()))
        mx.eval(self.parameters)
        self.names = list(self.parameters)

    def dense(self, name):
        return self.parameters[name]

    def inputs(self, name):
        return None


def unusual(name):
    branching, own = UNUSUAL[name]
    return branching, Random(BASE | own | {"model_type": name})
