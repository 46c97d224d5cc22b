"""How long a text may be for a model: every spelling of a limit in config.json.

Within the least of them a figure is the model's own. Beyond the length that `longrope` was first trained for, the model
would turn the positions of the whole text otherwise, and not as it has turned those of a shared context.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_quantbench.checkpoints.rope import ORIGINAL, rope_type, ropes_of, text_table
from pytest_quantbench.errors import ModelError

Config = Mapping[str, Any]

MOST = 2**31  # some files say 10^30 for "none"
LENGTHS = re.compile(  # of texts
    r"n_positions|n_ctx|max_position_embeddings?|max_seq(uence)?_len(gth)?|seq(uence)?_len(gth)?|model_max_length"
    r"|max_context_len(gth)?|block_size|(max|num)_positions|context_length"
)
WINDOWS = ("sliding_window", "sliding_window_size", "attention_window_size", "attention_chunk_size")


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
    return found | dict(_longrope(text))


def _longrope(text: Config) -> Iterator[tuple[str, int]]:
    for rope in ropes_of(text).values():
        original = text.get(ORIGINAL) or rope.get(ORIGINAL)
        if rope_type(rope) == "longrope" and original:
            yield f"{ORIGINAL} of longrope", int(original)


def refuse_unlike_lengths(table: Config) -> None:
    """Raise ModelError for a length or a window that is no number, such as "256"."""
    for key, value in table.items():
        if (LENGTHS.fullmatch(key) or key in WINDOWS) and isinstance(value, str):
            raise ModelError(f"config.json says {key} = {value!r:.80}, and it has to be a number of tokens, or null.")
