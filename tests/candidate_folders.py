"""Folders with a model as other tools leave it: config.json and one file of tensors, a few numbers large."""

import json

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from pytest_quantbench.checkpoints.formats import open_candidate

CONFIG = {"model_type": "llama", "hidden_size": 64, "vocab_size": 32}
Q_PROJ = "model.layers.0.self_attn.q_proj"
MATRIX = f"{Q_PROJ}.weight"


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


def _compressed(form, weights):
    group = {"targets": ["Linear"], "weights": {"symmetric": True} | weights, "input_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["re:.*lm_head"],
    }


def _module(**parts):
    return {f"{Q_PROJ}.{part}": np.asarray(array) for part, array in parts.items()}


def _ones(*shape, dtype=np.float16):
    return np.ones(shape, dtype)


_FLOAT4 = {"num_bits": 4, "type": "float"}
_E4M3, _E8M0 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e8m0fnu
_SHAPE = np.array([4, 64], np.int64)
# A small model in each format that is a folder: the format's name, the tensors of its only quantized matrix, which is
# (4, 64), and what config.json says.
FOLDERS = {
    "plain": ("plain", _module(weight=_ones(4, 64)), None),
    "mlx affine": (
        "mlx",
        _module(weight=_ones(4, 8, dtype=np.uint32), scales=_ones(4, 2), biases=_ones(4, 2)),
        {"group_size": 32, "bits": 4},
    ),
    "mlx nvfp4": (
        "mlx",
        _module(weight=_ones(4, 8, dtype=np.uint32), scales=_ones(4, 4, dtype=np.uint8)),
        {"group_size": 16, "bits": 4, "mode": "nvfp4", "lm_head": False},
    ),
    "pack-quantized": (
        "compressed-tensors",
        _module(weight_packed=_ones(4, 6, dtype=np.int32), weight_scale=_ones(4, 2), weight_shape=_SHAPE)
        | _module(weight_zero_point=_ones(1, 2, dtype=np.int32), weight_g_idx=np.arange(64, dtype=np.int32) // 32),
        _compressed("pack-quantized", {"num_bits": 3, "strategy": "group", "group_size": 32, "symmetric": False}),
    ),
    "int-quantized": (
        "compressed-tensors",
        _module(weight=_ones(4, 64, dtype=np.int8), weight_scale=_ones(4, 1)),
        _compressed("int-quantized", {"num_bits": 8, "strategy": "channel"}),
    ),
    "float-quantized": (
        "compressed-tensors",
        _module(weight=_ones(4, 64, dtype=_E4M3), weight_scale=_ones(2, 2)),
        _compressed("float-quantized", {"type": "float", "strategy": "block", "block_structure": [2, 32]}),
    ),
    "nvfp4-pack-quantized": (
        "compressed-tensors",
        _module(weight_packed=_ones(4, 32, dtype=np.uint8), weight_scale=_ones(4, 4, dtype=_E4M3))
        | _module(weight_global_scale=_ones(1, dtype=np.float32)),
        _compressed("nvfp4-pack-quantized", _FLOAT4 | {"strategy": "tensor_group", "group_size": 16}),
    ),
    "mxfp4-pack-quantized": (
        "compressed-tensors",
        _module(weight_packed=_ones(4, 32, dtype=np.uint8), weight_scale=_ones(4, 2, dtype=_E8M0)),
        _compressed("mxfp4-pack-quantized", _FLOAT4 | {"strategy": "group", "group_size": 32}),
    ),
    "fp8": (
        "fp8",
        _module(weight=_ones(4, 64, dtype=_E4M3), weight_scale_inv=_ones(1, 1, dtype=np.float32)),
        {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
    ),
}
BESIDE = {"lm_head.weight": np.ones((32, 64), np.float16), "model.norm.weight": np.ones(64, np.float32)}


def write_folder(directory, name, **changes):
    """A directory in one of these formats; None takes a tensor away."""
    _, tensors, said = FOLDERS[name]
    held = {name: array for name, array in (tensors | BESIDE | changes).items() if array is not None}
    return write_candidate(directory, held, said)


def whole(directory):
    """Every tensor decoded, of whatever opens."""
    holding = open_candidate(directory)
    for held in holding.stored():
        arrays = held.read()
        dense = arrays["weight"] if held.codec is None else held.codec.decode(arrays)
        assert dense.shape == held.shape
        if held.codec is not None:
            held.codec.layer(arrays)
            held.codec.note(held.shape, arrays)
    return holding
