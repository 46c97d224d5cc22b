"""How long a text may be for a model: every spelling of a limit in config.json, and the limits of the engine itself.

Within the least of them a figure is the model's own. Beyond a window that mlx-lm's module does not have, and beyond the
length that `longrope` was first trained for, the engine computes something else than the model would.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_quantbench.checkpoints.layer_kinds import PATTERN
from pytest_quantbench.checkpoints.rope import ORIGINAL, SLIDING, rope_type, ropes_of, text_table
from pytest_quantbench.engines.mlx.config_keys import LENGTHS, WINDOWS, refuse_unlike_lengths
from pytest_quantbench.engines.mlx.config_reads import reads

Config = Mapping[str, Any]

WINDOWED = {SLIDING, "chunked_attention"}
MOST = 2**31  # some files say 10^30 for "none"


def limits(config: Config) -> dict[str, int]:
    """Every limit on a text's tokens, begin-of-sequence included, by what says so. Raises ModelError for no number."""
    text = text_table(config)
    for table in (config, text):
        refuse_unlike_lengths(table)
    found = {
        key: int(value)
        for table in (config, text)
        for key, value in table.items()
        if LENGTHS.fullmatch(key) and type(value) in (int, float) and 0 < value < MOST
    }
    return found | dict(_longrope(text)) | dict(_window(config, text))


def _longrope(text: Config) -> Iterator[tuple[str, int]]:
    for rope in ropes_of(text).values():
        original = text.get(ORIGINAL) or rope.get(ORIGINAL)
        if rope_type(rope) == "longrope" and original:
            yield f"{ORIGINAL} of longrope", int(original)


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
