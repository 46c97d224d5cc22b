"""Folders with a model as other tools leave it: config.json and one file of tensors, a few numbers large."""

import json

import numpy as np
from safetensors.numpy import save_file

CONFIG = {"model_type": "llama", "hidden_size": 64, "vocab_size": 32}
Q_PROJ = "model.layers.0.self_attn.q_proj"


def write_candidate(directory, tensors, quantization=None, *, key="quantization_config", config=CONFIG):
    """The directory, with these tensors and what config.json says of quantization."""
    directory.mkdir(exist_ok=True)
    said = config if quantization is None else config | {key: quantization}
    (directory / "config.json").write_text(json.dumps(said))
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, directory / "model.safetensors")
    return directory


def bit_stream(rows, bits):
    """Whole numbers, row by row, first in the lowest bits, as 32-bit words: slow, with Python's own numbers."""
    words = []
    for row in rows:
        value = sum(int(code) << (bits * place) for place, code in enumerate(row))
        count = -(-len(row) * bits // 32)
        words.append([value >> (32 * place) & 0xFFFFFFFF for place in range(count)])
    return np.array(words, np.uint32)
