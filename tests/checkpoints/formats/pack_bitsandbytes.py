"""bitsandbytes' matrices of 4 bits, and a decoder, written from the layout's description."""

import json
import math

import numpy as np
from checkpoints.formats.hub_checkpoints import PATH

from pytest_quantbench.checkpoints.formats.bitsandbytes import NUMBERS

FOUR = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}
EIGHT = {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True}
STATE = "weight.quant_state.bitsandbytes__{}"


def as_bytes(state):
    return np.frombuffer(json.dumps(state).encode(), np.uint8)


def drawn(shape=(12, 40), block=64, kind="nf4", *, nested=0, seed=0):
    """The parts of a matrix of 4 bits, by the rest of their names."""
    rng = np.random.default_rng(seed)
    count = math.prod(shape)
    blocks = -(-count // block)
    codes = rng.integers(0, 16, count + count % 2)
    state = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": list(shape)}
    parts = {
        "weight": (codes[::2] << 4 | codes[1::2]).astype(np.uint8)[:, None],
        "weight.absmax": rng.uniform(0.01, 0.1, blocks).astype(np.float32),
        "weight.quant_map": NUMBERS[kind],
    }
    if nested:
        state |= {"nested_blocksize": nested, "nested_dtype": "float32", "nested_offset": 0.0625}
        parts["weight.absmax"] = rng.integers(0, 256, blocks).astype(np.uint8)
        parts["weight.nested_absmax"] = rng.uniform(0.01, 0.1, -(-blocks // nested)).astype(np.float32)
        parts["weight.nested_quant_map"] = np.sort(rng.uniform(-1, 1, 256)).astype(np.float32)
    return parts | {STATE.format(kind): as_bytes(state)}


def slow(parts):
    """Number by number, from the layout's description, each product rounded to float32."""
    state = next(json.loads(array.tobytes()) for name, array in parts.items() if "quant_state" in name)
    out = np.empty(math.prod(state["shape"]), np.float32)
    for place in range(len(out)):
        byte = int(parts["weight"].reshape(-1).view(np.uint8)[place // 2])
        block = place // state["blocksize"]
        scale = parts["weight.absmax"][block]
        if "nested_blocksize" in state:
            large = parts["weight.nested_absmax"][block // state["nested_blocksize"]]
            scale = parts["weight.nested_quant_map"][scale] * large + np.float32(state["nested_offset"])
        out[place] = parts["weight.quant_map"][byte & 15 if place % 2 else byte >> 4] * scale
    return out.reshape(state["shape"])


def under(parts):
    return {f"{PATH}.{name}": np.ascontiguousarray(array) for name, array in parts.items()}


def changed_state(**changes):
    parts = drawn(nested=32)
    state = json.loads(parts[STATE.format("nf4")].tobytes()) | changes
    return {STATE.format("nf4"): as_bytes(state)}
