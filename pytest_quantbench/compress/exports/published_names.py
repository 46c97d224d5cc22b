"""The names that the Hub's checkpoints have for the tensors of a model, from its config alone.

Needed where a file holds a model under other names and there is no original beside it: of a GGUF file every name is
asked for, and what it has is taken. Which parts a layer has is a table by architecture, as Transformers' classes have
them; biases and norms of single heads are asked for everywhere.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_quantbench.checkpoints.formats.protocol import Holding
from pytest_quantbench.errors import ModelError

OUTSIDE = ("model.embed_tokens", "model.norm", "lm_head")
ATTENTION = tuple(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"))
MLP = tuple(f"mlp.{part}_proj" for part in ("gate", "up", "down"))
NORMS = ("input_layernorm", "post_attention_layernorm")
AROUND_MLP = ("pre_feedforward_layernorm", "post_feedforward_layernorm")
SHARED = ("mlp.shared_expert_gate", *(f"mlp.shared_expert.{part}_proj" for part in ("gate", "up", "down")))
LLAMA = (*NORMS, *ATTENTION, *MLP)
# Of one layer; {expert} stands for every expert's number.
PARTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma"), LLAMA),
    **dict.fromkeys(("gemma2", "gemma3_text"), (*LLAMA, *AROUND_MLP)),
    "olmo2": (*ATTENTION, *MLP, "post_attention_layernorm", "post_feedforward_layernorm"),
    "phi3": (*NORMS, "self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"),
    "mixtral": (
        *NORMS,
        *ATTENTION,
        "block_sparse_moe.gate",
        *(f"block_sparse_moe.experts.{{expert}}.{part}" for part in ("w1", "w2", "w3")),
    ),
    **dict.fromkeys(
        ("qwen2_moe", "qwen3_moe"),
        (*LLAMA, "mlp.gate", *SHARED, *(f"mlp.experts.{{expert}}.{part}_proj" for part in ("gate", "up", "down"))),
    ),
}
ENDINGS = (".weight", ".bias")
MOST = 4096  # layers, or experts of one


def names_in(holding: Holding, config: Mapping[str, Any]) -> list[str]:
    """The published names of all tensors that the files hold. Raises ModelError for an architecture that is not in the
    table, and for tensors that have no place in it.
    """
    asked = _every(holding, config)
    names = [name for name in asked if holding.tensor(name) is not None]
    if beyond := holding.left_over(names):
        raise ModelError(
            f"{holding.files[0]} holds {beyond[0]}, which a {config.get('model_type')!r:.80} model on the Hub does not "
            f"have. Give the original."
        )
    return names


def _every(holding: Holding, config: Mapping[str, Any]) -> Iterator[str]:
    """All names that such a model may have."""
    kind = str(config.get("model_type"))
    if kind not in PARTS:
        raise ModelError(
            f"{holding.files[0]} is a {kind!r:.80} model, whose tensors' names on the Hub are not known here. "
            f"Those that are: {', '.join(PARTS)}."
        )
    layers = _number(holding, "num_hidden_layers", config.get("num_hidden_layers"))
    experts = _number(holding, "num_experts", config.get("num_local_experts") or config.get("num_experts") or 0)
    paths = [*OUTSIDE]
    for layer in range(layers):
        for part in PARTS[kind]:
            several = range(experts) if "{expert}" in part else range(1)
            paths += [f"model.layers.{layer}.{part.format(expert=expert)}" for expert in several]
    return (path + ending for path in paths for ending in ENDINGS)


def _number(holding: Holding, key: str, value: Any) -> int:
    """How many of something there are. Raises ModelError for what no model has so many of."""
    if not isinstance(value, int) or not 0 <= value <= MOST:
        raise ModelError(f"{holding.files[0]}: {key} is {value!r:.80}, and a number from 0 to {MOST} is needed.")
    return value
