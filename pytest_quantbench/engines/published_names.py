"""Names under which the Hub publishes a text model's tensors, and whether they are those that a model asks for."""

from collections.abc import Iterable, Mapping

from pytest_quantbench.errors import ModelError

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
