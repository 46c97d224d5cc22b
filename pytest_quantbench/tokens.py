"""The model's own tokenizer, through Transformers, and the two things about it that the protocols state."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantbench.errors import ModelError
from pytest_quantbench.positions import longest_input as longest_input


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


def end_tokens(directory: Path, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer: the tokenizer's own, and those that the model's files name.

    A chat model often has several, all listed in generation_config.json only.
    """
    named = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for file in (directory / "config.json", directory / "generation_config.json"):
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        named += found if isinstance(found, list) else [] if found is None else [found]
    return frozenset(map(int, named))


def vocabulary(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model has embeddings of, from config.json; None where that does not say."""
    size = (config.get("text_config") or config).get("vocab_size")
    return None if size is None else int(size)


def refuse_unknown_tokens(ids: Iterable[int], config: Mapping[str, Any]) -> None:
    """Raise ModelError for a token that the model has no embedding of. That it has some which no text gives is well:
    vocabularies are padded.
    """
    known, largest = vocabulary(config), max(ids, default=0)
    if known is not None and largest >= known:
        raise ModelError(
            f"The tokenizer gives token {largest}, and the model knows {known}: they do not belong together."
        )


def shared_run(first: Sequence[int], second: Sequence[int], length: int) -> bool:
    """Whether two token sequences have `length` tokens in a row in common. Compares 64-bit hashes of the runs."""
    keys = np.random.default_rng(0).integers(1, 2**64, length, dtype=np.uint64)
    return bool(np.isin(_run_hashes(first, keys), _run_hashes(second, keys)).any())


def _run_hashes(tokens: Sequence[int], keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One hash for every run of len(keys) tokens: the sum of token × key, modulo 2^64."""
    ids = np.asarray(tokens, np.uint64) + np.uint64(1)
    count = max(0, len(ids) - len(keys) + 1)
    hashes = np.zeros(count, np.uint64)
    for place, key in enumerate(keys):
        hashes += ids[place : place + count] * key
    return hashes
