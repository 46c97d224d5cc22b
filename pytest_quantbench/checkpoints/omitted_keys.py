"""What a config.json means by leaving a key out, where mlx-lm's module takes another value for granted.

Files leave out what the class of Transformers that wrote them takes for granted. Only keys stand here that change the
arithmetic and that no name or shape of a weight gives away; a test compares the table with both libraries.
"""

from collections.abc import Mapping
from typing import Any

from pytest_quantbench.checkpoints.rope import ALL_LAYERS, FULL, SLIDING, TEXT_TABLES, ropes_of

Config = Mapping[str, Any]

_DEEPSEEK_V3 = {"routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8}
_GEMMA3 = {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0}
_FALCON_H1 = ("attention_out", "embedding", "key", "lm_head", "ssm_in", "ssm_out")
# By model_type: Transformers' value of a key that is not in the file.
OMITTED: Mapping[str, Mapping[str, Any]] = {
    "afmoe": {"route_scale": 1.0, "sliding_window": 1024, "mup_enabled": False, "num_experts_per_tok": 6},
    "bitnet": {"rope_theta": 500000.0},
    "cohere": {"rope_theta": 500000.0},
    "cohere2": {"rope_theta": 10000.0},
    "deepseek_v3": _DEEPSEEK_V3,
    "deepseek_v32": _DEEPSEEK_V3,
    "ernie4_5_moe": {"moe_k": 6},
    "exaone_moe": {"rope_theta": 10000.0},
    "falcon_h1": {f"{part}_multiplier": 1.0 for part in _FALCON_H1}
    | {"rope_theta": 10000.0, "mamba_norm_before_gate": True},
    "gemma2": {"query_pre_attn_scalar": 256},
    "gemma3_text": _GEMMA3 | {"sliding_window": 4096},
    "gemma3n_text": _GEMMA3,
    "glm4_moe_lite": {"rope_theta": 10000.0},
    "kimi_k2": _DEEPSEEK_V3,
    "kimi_linear": {"routed_scaling_factor": 2.446, "num_experts_per_token": 8},
    "minicpm3": {"rope_theta": 10000.0},
    "phi": {"partial_rotary_factor": 0.5},
    "phimoe": {"rms_norm_eps": 1e-05, "rope_theta": 1000000.0},
    "qwen2": {"rope_theta": 10000.0},
    "qwen2_moe": {"rope_theta": 10000.0},
    "qwen3_next": {"norm_topk_prob": True},
    "smollm3": {"rope_theta": 2000000.0},
    "starcoder2": {"rope_theta": 10000.0},
    "step3p5": {"moe_router_scaling_factor": 1.0},
}


def with_omitted(config: Config, base: float | None = None) -> dict[str, Any]:
    """The config with what it leaves out, tables of text inside it too; all else as it was.

    `base`: of rotary positions, where neither the file nor the table says it: the module's own.
    """
    inner = {key: with_omitted(config[key], base) for key in TEXT_TABLES if isinstance(config.get(key), dict)}
    left_out: dict[str, Any] = dict(OMITTED.get(str(config.get("model_type")), {}))
    if base is not None and not inner:
        left_out.setdefault("rope_theta", base)
    ropes = ropes_of(config)
    whole = ropes.get(ALL_LAYERS) or ropes.get(FULL) or {}
    for key in ("rope_theta", "partial_rotary_factor"):
        if whole.get(key) is not None or (ropes and not whole):
            left_out.pop(key, None)
    if SLIDING in ropes:
        left_out.pop("rope_local_base_freq", None)
    left_out = {key: value for key, value in left_out.items() if config.get(key) is None}
    return {**config, **inner, **left_out}
