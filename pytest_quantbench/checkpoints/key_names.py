"""Names of config keys that mean the same: the publisher's, and the one that mlx-lm's module asks for.

Transformers knows them as `attribute_map` of a config's class, and its newer versions write other names than the older
ones did (`num_local_experts` for Qwen3-MoE's `num_experts`).
"""

from collections.abc import Mapping, Set
from typing import Any

from pytest_quantbench.checkpoints.rope import TEXT_TABLES

Config = Mapping[str, Any]

SAME: tuple[frozenset[str], ...] = (
    frozenset({"hidden_size", "n_embd", "d_model", "model_dim", "block_dim"}),
    frozenset({"num_hidden_layers", "n_layer", "n_layers", "num_layers"}),
    frozenset({"num_attention_heads", "n_head", "n_heads", "num_heads"}),
    frozenset({"num_key_value_heads", "n_kv_heads", "num_kv_heads", "n_head_kv"}),
    frozenset({"max_position_embeddings", "n_positions", "n_ctx"}),
    frozenset(
        {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon", "layernorm_epsilon"}
    ),
    frozenset({"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"}),
    frozenset({"num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "experts_per_token"}),
    frozenset({"intermediate_size", "n_inner", "ffn_dim", "mlp_hidden_size"}),
    frozenset({"sliding_window_pattern", "_sliding_window_pattern", "layer_switch"}),
    frozenset({"hidden_act", "hidden_activation", "activation_function"}),
)


def other_names(key: str) -> frozenset[str]:
    """The other names of a key."""
    return next((names - {key} for names in SAME if key in names), frozenset())


def with_asked_names(config: Config, top: Set[str], text: Set[str]) -> dict[str, Any]:
    """The config with a key under the name that a module asks for, where it stands there under another alone.

    `top` and `text`: what the module asks for of the config and of the table of text in it.
    """
    written = dict(config)
    for names in SAME:
        for asked in (names & top) - config.keys():
            found = [config[name] for name in sorted(names & config.keys()) if config[name] is not None]
            if found and all(value == found[0] for value in found):
                written[asked] = found[0]
    inner = {key: with_asked_names(config[key], text, text) for key in TEXT_TABLES if isinstance(config.get(key), dict)}
    for table in inner.values():  # Gemma 3's module asks for the vocabulary at the top
        written |= {key: table[key] for key in (top & table.keys()) - written.keys()}
    return written | inner
