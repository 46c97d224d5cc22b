"""Which decoder layers look at the whole text and which through a window: both spellings, and their pattern.

Transformers 5 lists every layer's kind (`layer_types`); older files, and some of mlx-lm's modules, say every how many
layers one looks at everything (`sliding_window_pattern`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_quantbench.checkpoints.omitted_keys import with_omitted
from pytest_quantbench.checkpoints.rope import FULL, SLIDING, TEXT_TABLES, spelled

Config = Mapping[str, Any]

PATTERN = ("sliding_window_pattern", "_sliding_window_pattern")


def layer_kinds(table: Config) -> list[str]:
    """The kind of every decoder layer of a config's table; [] where it does not say."""
    kinds, count = table.get("layer_types"), table.get("num_hidden_layers")
    if isinstance(kinds, list):
        return [str(kind) for kind in kinds]
    pattern = next((table[key] for key in PATTERN if isinstance(table.get(key), int)), None)
    if pattern is None or not isinstance(count, int):
        return []
    return [SLIDING if (layer + 1) % pattern else FULL for layer in range(count)]


def pattern_of(kinds: Sequence[str]) -> int | None:
    """Every how many layers one of these kinds looks at the whole text; None where that is not regular."""
    every = kinds.index(FULL) + 1 if FULL in kinds else len(kinds) + 1
    regular = [SLIDING if (layer + 1) % every else FULL for layer in range(len(kinds))]
    return every if regular == list(kinds) else None


def with_patterns(config: Config) -> dict[str, Any]:
    """The config with `sliding_window_pattern` as its `layer_types` say, tables of text inside it too."""
    inner = {key: with_patterns(config[key]) for key in TEXT_TABLES if isinstance(config.get(key), dict)}
    kinds = config.get("layer_types")
    every = pattern_of(kinds) if isinstance(kinds, list) and SLIDING in kinds else None
    return {**config, **inner} | ({} if every is None else {PATTERN[0]: every})


def for_mlx_lm(config: Config) -> dict[str, Any]:
    """The config in the words that mlx-lm's modules read, to be written beside an artifact's weights."""
    return with_patterns(spelled(with_omitted(config), short=False))
