"""The model's own tokenizer, through Transformers, and the two things about it that the protocols state."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_quantbench.errors import ModelError


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a model directory; never runs code from there. Raises ModelError where it cannot be opened."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"The tokenizer in {directory} cannot be opened: {error}.") from error


def bos_of(tokenizer: Any) -> int | None:
    """The token that the tokenizer puts in front of a text by itself, or None."""
    bare, whole = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    return int(whole[0]) if whole[: len(bare)] != bare and whole[0] == tokenizer.bos_token_id else None


def longest_input(config: Mapping[str, Any], otherwise: int) -> int:
    """How many positions the model takes, from config.json."""
    text = config.get("text_config") or config
    return int(text.get("max_position_embeddings") or otherwise)
