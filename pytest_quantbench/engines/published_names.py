"""The tensors of a text model as the Hub publishes them: whether their names are those that a model asks for, and
whether its output head is its embeddings.

Of the head config.json says one thing or nothing, the weights another, and a class of Transformers and mlx-lm's module
for it take other things for granted; so a config is completed before an engine builds a model of it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_quantbench.checkpoints.rope import TEXT_TABLES, text_table
from pytest_quantbench.errors import ModelError

Config = Mapping[str, Any]

HEAD, TIED = "lm_head.weight", "tie_word_embeddings"
EMBEDDINGS = "embed_tokens.weight"

# What looks at pictures or hears; of a model that does, only the text model is evaluated.
OTHER_SENSES = ("vision", "visual", "multi_modal", "mm_", "audio", "embed_vision", "embed_audio", "image")


def is_of_other_senses(name: str) -> bool:
    """Whether a published tensor belongs to what looks at pictures or hears."""
    return name.removeprefix("model.").startswith(OTHER_SENSES)


def renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """A name with the longest of these prefixes exchanged."""
    found = max((old for old in prefixes if name.startswith(old)), key=len, default=None)
    return name if found is None else prefixes[found] + name.removeprefix(found)


def refuse_unlike(missing: Iterable[str], extra: Iterable[str]) -> None:
    """Raise ModelError where parameters have no tensors, or tensors belong to no parameter."""
    lacking, more_than = sorted(missing), sorted(extra)
    if lacking or more_than:
        problem = f"it lacks {lacking[0]}" if lacking else f"it has {more_than[0]}, which the architecture does not"
        count = len(lacking) + len(more_than) - 1
        more = f" (and {count} more)" if count else ""
        raise ModelError(f"{problem}{more}: config.json and weights do not belong together.")


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
