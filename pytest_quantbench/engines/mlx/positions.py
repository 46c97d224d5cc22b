"""How long a text may be for a model of mlx-lm's: what config.json says, and the limits of mlx-lm's module itself.

Beyond a window that mlx-lm's module does not have, it computes something else than the model would.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_quantbench.checkpoints.layer_kinds import PATTERN
from pytest_quantbench.checkpoints.rope import SLIDING, text_table
from pytest_quantbench.engines import positions
from pytest_quantbench.engines.mlx.config_reads import reads
from pytest_quantbench.engines.positions import WINDOWS

Config = Mapping[str, Any]

WINDOWED = {SLIDING, "chunked_attention"}


def limits(config: Config) -> dict[str, int]:
    """Every limit on a text's tokens, begin-of-sequence included, by what says so. Raises ModelError for no number."""
    return positions.limits(config) | dict(_window(config, text_table(config)))


def _window(config: Config, text: Config) -> Iterator[tuple[str, int]]:
    """The window of some layers, where mlx-lm's module lets them look at the whole text."""
    key = next((key for key in WINDOWS if type(text.get(key)) is int and text[key] > 0), None)
    if key is None or text.get("use_sliding_window") is False:
        return
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and not WINDOWED & set(kinds):
        return
    keys = reads(config).text
    told = "layer_types" not in keys or isinstance(
        kinds, list
    )  # a module that asks for kinds and is told none has none
    if key not in keys or not (told or PATTERN[0] in keys):
        yield f"{key}, which mlx-lm's {text.get('model_type')!r} does not apply", text[key]
