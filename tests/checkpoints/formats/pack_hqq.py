"""HQQ's modules, packed word by word from the layout's description."""

import math

import numpy as np

# By their names: how many codes a word holds, of how many bits.
PACKINGS = {"8bit_u8": (1, 8), "4bit_u8": (2, 4), "3bit_32": (10, 3), "2bit_u8": (4, 2), "1bit_u8": (8, 1)}


def config(bits=4, *, layer=None):
    params = {"weight_quant_params": {"nbits": bits, "group_size": 32, "axis": 1}}
    return {"quant_method": "hqq", "quant_config": {layer: params} if layer else params, "skip_modules": ["lm_head"]}


def drawn(shape=(16, 64), packing="4bit_u8", group=32, axis=1, *, seed=0, kind=np.float16):
    """Codes as they were cut into groups, with their scales and zero points."""
    rng = np.random.default_rng(seed)
    bits, groups = PACKINGS[packing][1], math.prod(shape) // group
    codes = rng.integers(0, 2**bits, (groups, group) if axis == 1 else (group, groups))
    of_groups = (groups, 1) if axis == 1 else (1, groups)
    scales, zeros = rng.uniform(0.001, 0.02, of_groups), rng.uniform(0.2, 2**bits - 1, of_groups)
    return codes, scales.astype(kind), zeros.astype(kind)


def pack(parts, packing, shape, group, axis, *, bits=None):
    """The parts of a module, word by word."""
    codes, scales, zeros = parts
    count, width = PACKINGS[packing]
    rows = -(-len(codes) // count)
    words = np.zeros((rows, codes.shape[1]), np.int32 if packing == "3bit_32" else np.uint8)
    for (row, column), code in np.ndenumerate(codes):
        words[row % rows, column] |= int(code) << width * (count - 1 - row // rows)
    return {
        "W_q": words,
        "scale": scales,
        "zero": zeros,
        "shape": np.array(shape, np.int64),
        "nbits": np.array(width if bits is None else bits, np.int32 if bits is None else np.float32),
        "group_size": np.array(group, np.int32),
        "axis": np.array(axis, np.int32),
        "packing": np.frombuffer(packing.encode(), np.uint8),
        "view_as_float": np.array(0, np.uint8),
        "encoded_state_dict": np.array(1, np.uint8),
    }


def near(parts, shape):
    """The definition, in float64."""
    codes, scales, zeros = parts
    return ((codes - zeros.astype(np.float64)) * scales.astype(np.float64)).reshape(shape)
