"""Whether a model's output head is its embeddings: what config.json says of it, and what the weights do.

A class of Transformers and mlx-lm's module for it may take other things for granted, so that a config is completed
before an engine builds a model of it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_quantbench.checkpoints.rope import TEXT_TABLES, text_table
from pytest_quantbench.errors import ModelError

Config = Mapping[str, Any]

HEAD, TIED = "lm_head.weight", "tie_word_embeddings"
EMBEDDINGS = "embed_tokens.weight"


def said_of_head(config: Config) -> set[bool]:
    """What a config says on whether the output head is the embeddings; empty for nothing. Raises ModelError."""
    said = [table[TIED] for table in (config, text_table(config)) if table.get(TIED) is not None]
    for value in said:
        if not isinstance(value, bool):
            raise ModelError(f"config.json says {TIED} = {value!r:.80}, which is neither true nor false.")
    return set(said)


def with_head(config: Config, own: bool) -> Config:
    """The config, saying whether the model has an output head of its own where it does not say so itself."""
    said = said_of_head(config)
    tied = {TIED: next(iter(said)) if len(said) == 1 else not own}
    inner = {key: {**config[key], **tied} for key in TEXT_TABLES if isinstance(config.get(key), dict)}
    return {**config, **inner} if inner else {**config, **tied}


def with_head_as_stored(config: Config, names: Iterable[str], equal: Callable[[str, str], bool]) -> Config:
    """The config, saying of the output head what is true of the weights where it does not say it itself. `names`: of
    the tensors as they are published; `equal`: whether two of them have the same shape and values.

    Raises ModelError where the config says that the head is the embeddings, and the weights hold another one: which of
    them is meant is not known.
    """
    said, stored = said_of_head(config), list(names)
    head, embeddings = (_only(stored, name) for name in (HEAD, EMBEDDINGS))
    own = head is not None and (embeddings is None or said == {False} or not equal(head, embeddings))
    if own and embeddings is not None and said == {True}:
        raise ModelError(
            f"config.json says {TIED} = true, and the weights hold an output head ({head}) that is not the embeddings. "
            f"Set it to false in a copy of the model's directory, or remove that tensor from it, whichever is meant."
        )
    return with_head(config, own)


def _only(names: Iterable[str], ending: str) -> str | None:
    return next((name for name in names if name == ending or name.endswith("." + ending)), None)
