"""The parts of compressed-tensors' modules from an independent packer, and what config.json says of them."""

import numpy as np
from candidate_folders import Q_PROJ, bit_stream, write_candidate

from pytest_quantbench.checkpoints.formats import open_candidate

RANDOM = np.random.default_rng(5)
WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
PER_TOKEN = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
STATIC = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor", "dynamic": False}
PLAIN = {"lm_head.weight": np.ones((32, 64), np.float16)}


def quantization(weights=WEIGHTS, form="pack-quantized", targets=("Linear",), **more):
    """What config.json says, with one group."""
    group = {"targets": list(targets), "weights": weights, "input_activations": more.pop("inputs", None)}
    said = {"config_groups": {"group_0": group}, "format": form, "ignore": ["lm_head"]}
    return {"quant_method": "compressed-tensors", **said, **more}


def packed(bits=4, shape=(48, 64), group=32, dtype=np.float32):
    """Codes, scales, and the parts of a packed matrix."""
    codes = RANDOM.integers(0, 2**bits, shape)
    scales = RANDOM.uniform(0.01, 0.02, (shape[0], shape[1] // group)).astype(dtype)
    parts = {
        "weight_packed": bit_stream(codes, bits).view(np.int32),
        "weight_scale": scales,
        "weight_shape": np.array(shape, np.int64),
    }
    return codes, scales, parts


def int8(shape=(48, 64)):
    """The parts of a matrix of bytes with a scale for each row."""
    codes = RANDOM.integers(-128, 128, shape).astype(np.int8)
    return {"weight": codes, "weight_scale": RANDOM.uniform(0.01, 0.02, (shape[0], 1)).astype(np.float32)}


def open_parts(directory, parts, said=None, *, path=Q_PROJ, beside=PLAIN, key="quantization_config"):
    """The holding of a module's parts, beside tensors that are not quantized."""
    named = {f"{path}.{part}": array for part, array in parts.items()}
    return open_candidate(write_candidate(directory, named | beside, said or quantization(), key=key))
