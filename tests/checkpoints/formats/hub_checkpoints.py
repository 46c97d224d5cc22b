"""Directories as other tools publish quantized models, made of arrays that a test has packed."""

import json

import numpy as np
from safetensors.numpy import save_file

from pytest_quantbench.checkpoints.formats import open_candidate

NORM = "model.norm.weight"
PATH = "model.layers.0.mlp.up_proj"


def write(directory, tensors, quantization, *, config=None):
    """A directory with these tensors and a norm beside them."""
    directory.mkdir(exist_ok=True, parents=True)
    beside = {NORM: np.ones(8, np.float16)}
    save_file({**beside, **tensors}, directory / "model.safetensors")
    table = {"model_type": "llama", **(config or {})} | ({"quantization_config": quantization} if quantization else {})
    (directory / "config.json").write_text(json.dumps(table))
    return directory


def under(path, parts):
    """Names of a module's parts."""
    return {f"{path}.{part}": np.ascontiguousarray(array) for part, array in parts.items()}


def held(directory, path=PATH):
    """The module's weight, opened from the directory."""
    return open_candidate(directory).tensor(f"{path}.weight")


def decoded(directory, path=PATH):
    """The same, decoded."""
    tensor = held(directory, path)
    return tensor.codec.decode(tensor.read())


def bit_stream(codes, bits):
    """A list of codes → 32-bit words, bit by bit: the first code's lowest bit is the first word's lowest."""
    whole = 0
    for place, code in enumerate(codes):
        whole |= int(code) << bits * place
    words = -(-len(codes) * bits // 32)
    return [whole >> 32 * word & 0xFFFFFFFF for word in range(words)]


def as_int32(words):
    return np.array(words, np.uint32).view(np.int32)
