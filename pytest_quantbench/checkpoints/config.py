"""config.json of a model: read, and refused before anything is built from it that the weights cannot back."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_quantbench.checkpoints.rope import text_table
from pytest_quantbench.errors import ModelError

SAID_TYPE = ("dtype", "torch_dtype")  # the keys of the type that weights are published in
MOST_CONFIG_BYTES = 10_000_000
# Keys that say how many modules are built, and keys that say how large they are: experts are rows of a stack.
COUNTS = re.compile(r"(.*_)?(n|num)_(.*_)?(layers?|blocks?|groups?)(_.*)?|depth|.*_groups", re.IGNORECASE)
SIZES = re.compile(r".*(size|dim|heads?|rank|width|embd|d_model|kernel|experts?(_.*)?)", re.IGNORECASE)


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a directory with a model in 16 or 32 bits. Raises ModelError naming what is missing or wrong."""
    path = directory / "config.json"
    if not directory.is_dir():
        raise ModelError(f"{directory} is not a directory. Give a model directory or a Hub id like 'owner/name'.")
    if not path.is_file():
        raise ModelError(
            f"{directory} has no config.json. A model directory holds config.json, *.safetensors and a tokenizer."
        )
    config = read_table(path)
    if "model_type" not in config:
        raise ModelError(f"{path} names no model_type.")
    _refuse_quantized(path, config)
    return config


def read_table(path: Path) -> dict[str, Any]:
    """A JSON file that holds a table. Raises ModelError for one that is too long, cannot be read, or holds no table."""
    try:
        if (size := path.stat().st_size) > MOST_CONFIG_BYTES:
            raise ModelError(f"{path} takes {size} bytes, and a config at most {MOST_CONFIG_BYTES}.")
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON: {error}.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    if not isinstance(table, dict):
        raise ModelError(f"{path} holds no table.")
    return table


def _refuse_quantized(path: Path, config: Mapping[str, Any]) -> None:
    for key in ("quantization", "quantization_config"):
        if config.get(key):
            raise ModelError(
                f"{path} has {key!r}: this model is already quantized. Give the BF16 original here, and this one as "
                f"--candidate {path.parent}."
            )


def remote_code(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The Python code of its own repository that a config asks for; it is never fetched and never run."""
    named = config.get("auto_map") or {}
    values = named.values() if isinstance(named, dict) else [named]
    return tuple(sorted({str(value) for value in [*values, config.get("model_file")] if value}))


def as_published(number: float, config: Mapping[str, Any]) -> float:
    """A constant of a model's own code in the type that the model is published in, as its config.json says.

    Gemma multiplies its embeddings by √hidden size *in that type*: Google's code and Transformers' make it a number of
    the embeddings' own, so that what was trained in bfloat16 has 50.5 and not 50.596 at 2,560. Code that computes in
    float32 would have another model.
    """
    import ml_dtypes  # here: collecting a suite imports this module, and loads nothing heavy
    import numpy as np

    short: Mapping[str, Any] = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
    said = next((table[key] for table in (config, text_table(config)) for key in SAID_TYPE if table.get(key)), None)
    kind = short.get(str(said).removeprefix("torch."))
    return number if kind is None else float(kind(number))


def check_sizes(directory: Path, config: Mapping[str, Any], tensors: int, elements: int) -> None:
    """Raise ModelError where the config asks for more modules than there are tensors, or wider ones than all elements.

    Modules are Python objects, and a billion of them take the memory before their weights are missed.
    """
    for key, value in _numbers(config):
        for pattern, most, what in ((COUNTS, tensors, "tensors"), (SIZES, elements, "elements")):
            if pattern.fullmatch(key) and value > most:
                raise ModelError(
                    f"{directory}: config.json says {key} = {value}, and the weights hold {most} {what}: they do not "
                    f"belong together."
                )


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in nested tables and lists, with the key that it stands under."""
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _numbers(item, inner)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value
