"""A model to time and nothing else: the shape of a small Llama, random weights made on the spot from a seed.

    python tools/speed_model.py DIRECTORY [--parameters 100000000]

Tiny's decode step is overhead, so its speed says nothing of low bits; this model's step is mostly reading weights. It
has Tiny's tokenizer. Its texts are noise: only T1 and size mean something (`-m "t1 or size"`). A model that is already
in the directory is left as it is.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.storage.files import write_atomically

HIDDEN, INNER, HEADS, KV_HEADS = 1024, 2816, 16, 8
SEED, DEVIATION = 0, 0.02
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def config(layers: int) -> dict[str, object]:
    """Llama's, with Tiny's vocabulary."""
    tiny = json.loads((TINY_DIRECTORY / "config.json").read_text())
    changes = {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "num_hidden_layers": layers,
        "max_position_embeddings": 2048,
    }
    return {**tiny, **changes}


def shapes(layers: int, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The parameters by their published names, (out, in)."""
    keys = HIDDEN // HEADS * KV_HEADS
    yield "model.embed_tokens.weight", (vocabulary, HIDDEN)
    for layer in range(layers):
        names = {"q": HIDDEN, "k": keys, "v": keys, "o": HIDDEN}
        yield from ((f"model.layers.{layer}.self_attn.{name}_proj.weight", (rows, HIDDEN)) for name, rows in names.items())
        yield f"model.layers.{layer}.mlp.gate_proj.weight", (INNER, HIDDEN)
        yield f"model.layers.{layer}.mlp.up_proj.weight", (INNER, HIDDEN)
        yield f"model.layers.{layer}.mlp.down_proj.weight", (HIDDEN, INNER)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{layer}.{name}.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)


def layers_of(parameters: int, vocabulary: int) -> int:
    """How many decoder layers make about so many parameters."""
    one = sum(int(np.prod(shape)) for name, shape in shapes(1, vocabulary) if ".layers." in name)
    return max(1, round((parameters - vocabulary * HIDDEN) / one))


def make(directory: Path, parameters: int) -> None:
    """Write config, weights in BF16 and tokenizer."""
    if (directory / "config.json").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = json.loads((TINY_DIRECTORY / "config.json").read_text())["vocab_size"]
    layers, rng = layers_of(parameters, vocabulary), np.random.default_rng(SEED)
    weights = {name: _values(rng, shape) for name, shape in shapes(layers, vocabulary)}
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    for name in TOKENIZER:
        shutil.copyfile(TINY_DIRECTORY / name, directory / name)
    write_atomically(directory / "config.json", json.dumps(config(layers), indent=2).encode())  # last: it is whole


def _values(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 1:
        return np.ones(shape, ml_dtypes.bfloat16)
    return (DEVIATION * rng.standard_normal(shape, np.float32)).astype(ml_dtypes.bfloat16)


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--parameters", type=int, default=100_000_000)
    given = parser.parse_args()
    make(given.directory, given.parameters)


if __name__ == "__main__":
    main()
