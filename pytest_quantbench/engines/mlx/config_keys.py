"""Which keys of config.json mlx-lm's module leaves unread, and whether it may (see `engines/config_keys`)."""

import re
from collections.abc import Callable, Mapping, Set
from typing import Any

from pytest_quantbench.checkpoints.key_names import other_names
from pytest_quantbench.checkpoints.layer_kinds import PATTERN, pattern_of
from pytest_quantbench.checkpoints.rope import ORIGINAL, ROPE_KEYS, TEXT_TABLES, text_table
from pytest_quantbench.engines.config_keys import says_nothing
from pytest_quantbench.engines.mlx.config_reads import GELUS, Reads, reads
from pytest_quantbench.engines.positions import refuse_unlike_lengths
from pytest_quantbench.errors import ModelError

Config = Mapping[str, Any]

ACTIVATIONS: Mapping[str, tuple[str, ...]] = {  # what Transformers calls a function, and mlx-lm's modules
    "silu": ("silu", "swiglu", "SwitchGLU"),
    "swish": ("silu", "swiglu", "SwitchGLU"),
    "swiglu": ("silu", "swiglu", "SwitchGLU"),
    **{name: (function,) for name, function in GELUS.items()},
    "relu": ("relu",),
    "relu2": ("relu2", "relu_squared", "square"),
    "sigmoid": ("sigmoid",),
    "softmax": ("softmax",),
    "xielu": ("XieLU", "xielu"),
}
ACTIVATION_KEYS = re.compile(
    r"hidden_act|hidden_activation|activation(_function|_type)?|ffn_act.*|scoring_func|.*_act(_fn)?"
)
HEADS = frozenset({"num_attention_heads"}) | other_names("num_attention_heads")


def refuse_unread(config: Config, *, ropes_checked: bool, epsilons: Set[float]) -> None:
    """Raise ModelError naming the first key that changes the arithmetic and that mlx-lm's module does not read.

    `ropes_checked`: the keys of rotary positions were compared with what the model does; `epsilons`: those that its
    norms have.
    """
    read, text = reads(config), text_table(config)
    settled = ROPE_KEYS | {ORIGINAL} if ropes_checked else frozenset({ORIGINAL})
    if not ropes_checked and ROPE_KEYS & (read.top | read.text):
        settled |= ROPE_KEYS - read.top - read.text  # one spelling is read, and `spelled` writes them all
    if not HEADS & (read.top | read.text):  # no attention at all, as in Mamba
        settled |= HEADS | ROPE_KEYS
    tables = [(config, read.top)] + ([(text, read.text)] if text is not config else [])
    for table, keys in tables:
        refuse_unlike_lengths(table)
        for key, value in table.items():
            elsewhere = table is config and text is not config and key in text  # the text model's own is what counts
            norm = "eps" in key and value in epsilons
            if elsewhere or norm or key in keys | settled | set(TEXT_TABLES):
                continue
            if not _harmless(key, value, table, read):
                raise ModelError(
                    f"Unsupported config.json: mlx-lm's {config.get('model_type')!r} does not read {key!r}, and "
                    f"{value!r:.200} may change what the model computes. Where it does not, take the key out of a copy "
                    f"of the directory's config.json and give that copy with --model."
                )


def _harmless(key: str, value: Any, table: Config, read: Reads) -> bool:
    """Whether an unread key changes nothing, or nothing that would go unnoticed."""
    if says_nothing(key, value, table):
        return True
    if key == "hidden_act" and table.get("hidden_activation") is not None:  # Gemma's has both, and takes the latter
        return True
    if ACTIVATION_KEYS.fullmatch(key) and isinstance(value, str):
        return bool(read.functions & set(ACTIVATIONS.get(value, (value,))))
    if _said_otherwise(key, value, table, read):
        return True
    derived = DERIVED.get(key)
    return derived is not None and derived(value, table, read)


def _said_otherwise(key: str, value: Any, table: Config, read: Reads) -> bool:
    """Another name of a key that the module reads, and no other value."""
    return any(other in read.top | read.text and table.get(other, value) == value for other in other_names(key))


def _is_plain_scale(value: Any, table: Config, read: Reads) -> bool:
    """Scores divided by the root of the size of a head, as everywhere."""
    heads = table.get("head_dim") or table.get("hidden_size", 0) / table.get("num_attention_heads", 1)
    return value in (heads, heads**-0.5)


def _told_otherwise(value: Any, table: Config, read: Reads) -> bool:
    """Layers' kinds that the module reads as a pattern, or that differ in their weights, or in a window alone.

    Texts are kept within a window that the module does not have (`positions`).
    """
    return PATTERN[0] not in read.top | read.text or pattern_of(value) is not None


def _all_harmless(value: Any, table: Config, read: Reads) -> bool:
    """What differs between layers, by layer."""
    return all(_harmless(key, inner, table, read) for layer in value.values() for key, inner in layer.items())


DERIVED: Mapping[str, Callable[[Any, Config, Reads], bool]] = {
    "per_layer_config": _all_harmless,
    "global_attn_every_n_layers": lambda value, table, read: "layer_types" in read.text and "layer_types" in table,
    "query_pre_attn_scalar": _is_plain_scale,
    "attention_multiplier": _is_plain_scale,
    "layer_types": _told_otherwise,
    "_sliding_window_pattern": lambda value, table, read: True,  # Transformers' own note; layer_types says it
    "sliding_window_pattern": lambda value, table, read: True,
}
