"""Configs of small random models of several architectures, and the way to the shared real data."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from pytest_quantbench.engines.mlx.skeleton import skeleton

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"

_SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 2048,
    "max_position_embeddings": 256,
}
_GEMMA = _SMALL | {"num_hidden_layers": 7, "head_dim": 16, "sliding_window": 8, "sliding_window_pattern": 3}
_DEEPSEEK = {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "q_lora_rank": None,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "rope_scaling": {
        "type": "yarn",
        "factor": 40,
        "mscale": 0.7,
        "mscale_all_dim": 0.7,
        "original_max_position_embeddings": 4096,
    },
}
_MIXTURE = _SMALL | {"tie_word_embeddings": False, "num_experts_per_tok": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _SMALL | {"model_type": "llama", "tie_word_embeddings": False},
    "qwen2": _SMALL | {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": _SMALL | {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True, "rope_theta": 1e4},
    "gemma3_text": _GEMMA | {"model_type": "gemma3_text"},
    "gemma3": {"model_type": "gemma3", "vocab_size": 2048, "text_config": _GEMMA | {"model_type": "gemma3_text"}},
    "phi3": _SMALL | {"model_type": "phi3"},
    "mixtral": _MIXTURE | {"model_type": "mixtral", "num_local_experts": 4},
    "qwen3_moe": _MIXTURE
    | {
        "model_type": "qwen3_moe",
        "head_dim": 16,
        "num_experts": 4,
        "moe_intermediate_size": 32,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [2],  # a layer without experts
        "norm_topk_prob": True,
        "rope_theta": 1e6,
    },
}
# More mixtures: experts beside a shared one, a router that is no linear layer, biases, layers without experts.
MIXTURES: dict[str, dict[str, Any]] = {
    "qwen2_moe": _MIXTURE
    | {
        "model_type": "qwen2_moe",
        "num_experts": 4,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 96,
    },
    "olmoe": _MIXTURE | {"model_type": "olmoe", "num_experts": 4, "mlp_bias": True},
    "deepseek_v2": _MIXTURE | _DEEPSEEK | {"model_type": "deepseek_v2", "topk_method": "greedy"},
    "gpt_oss": _MIXTURE
    | {
        "model_type": "gpt_oss",
        "head_dim": 16,
        "num_local_experts": 4,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}
HEADS = ("lm_head.weight", "language_model.lm_head.weight")  # so that every random model has a head of its own


def shared(*parts: str) -> Path:
    """A path in the shared data, or a skip that says why."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs real data that is not part of the project ({'/'.join(parts)})")
    return path


# A mixture whose attention has stacks that are no experts: refused.
REFUSED = {"deepseek_v3": _MIXTURE | _DEEPSEEK | {"model_type": "deepseek_v3", "n_group": 1, "topk_group": 1}}


class InMemory:
    """Weights of a random model, as a walk reads them; `sizes`: what its config has instead."""

    def __init__(self, architecture, seed=0, **sizes):
        self.config = CONFIGS[architecture] | sizes
        mx.random.seed(seed)
        self.model = skeleton(self.config, HEADS)
        self.parameters = dict(tree_flatten(self.model.parameters()))
        mx.eval(self.parameters)
        self.names = list(self.parameters)
        self.asked = []

    def dense(self, name):
        self.asked.append(name)
        return self.parameters[name]

    def inputs(self, name):
        return None


def slow_answer(model, request):
    """One forward pass over context and continuation, all by itself."""
    logits = np.array(model(mx.array([[*request.context, *request.continuation]]))[0].astype(mx.float32), np.float64)
    logits -= logits.max(-1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    places = np.arange(len(request.continuation)) + len(request.context) - 1
    total = log_probabilities[places, request.continuation].sum()
    return total, bool((logits[places].argmax(-1) == request.continuation).all())
