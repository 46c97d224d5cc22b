"""Configs of small random models of several architectures, and the way to the shared real data."""

from pathlib import Path
from typing import Any

import pytest

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
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _SMALL | {"model_type": "llama", "tie_word_embeddings": False},
    "qwen2": _SMALL | {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": _SMALL | {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True, "rope_theta": 1e4},
    "gemma3_text": _GEMMA | {"model_type": "gemma3_text"},
    "gemma3": {"model_type": "gemma3", "vocab_size": 2048, "text_config": _GEMMA | {"model_type": "gemma3_text"}},
    "phi3": _SMALL | {"model_type": "phi3"},
}
HEADS = ("lm_head.weight", "language_model.lm_head.weight")  # so that every random model has a head of its own


def shared(*parts: str) -> Path:
    """A path in the shared data, or a skip that says why."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs real data that is not part of the project ({'/'.join(parts)})")
    return path
