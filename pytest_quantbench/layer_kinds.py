"""Which decoder layers look at the whole text and which through a window: both spellings, and their pattern.

Transformers 5 lists every layer's kind (`layer_types`); older files, and some of mlx-lm's modules, say every how many
layers one looks at everything (`sliding_window_pattern`).
"""

from collections.abc import Mapping
from typing import Any

from pytest_quantbench.errors import ModelError
from pytest_quantbench.rope_config import FULL, SLIDING, TEXT_TABLES, spelled

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


def with_patterns(config: Config) -> dict[str, Any]:
    """The config with `sliding_window_pattern` beside `layer_types`, tables of text inside it too.

    Raises ModelError where both are there and do not say the same.
    """
    inner = {key: with_patterns(config[key]) for key in TEXT_TABLES if isinstance(config.get(key), dict)}
    written = {**config, **inner}
    kinds = config.get("layer_types")
    if not isinstance(kinds, list) or SLIDING not in kinds:
        return written
    said = next((config[key] for key in PATTERN if isinstance(config.get(key), int)), None)
    every = said or (kinds.index(FULL) + 1 if FULL in kinds else len(kinds) + 1)
    regular = [SLIDING if (layer + 1) % every else FULL for layer in range(len(kinds))]
    if regular == kinds:
        written.setdefault(PATTERN[0], every)
    elif said is not None:
        raise ModelError(
            f"config.json contradicts itself: its layer_types are not those of a pattern of {said}. Remove one of them."
        )
    return written


def for_mlx_lm(config: Config) -> dict[str, Any]:
    """The config in the words that mlx-lm's modules read, to be written beside an artifact's weights."""
    return with_patterns(spelled(config, short=False))
