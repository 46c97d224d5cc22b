"""GPTQ's modules, packed word by word from the layout's description."""

import numpy as np
from checkpoints.formats.hub_checkpoints import as_int32, bit_stream

CONFIG = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}


def drawn(outs=16, ins=64, bits=4, groups=2, *, seed=0, kind=np.float16, least_zero=1):
    """Codes, scales, zero points and each column's group."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bits, (outs, ins))
    zeros = rng.integers(least_zero, 2**bits, (outs, groups))
    scales = rng.uniform(0.001, 0.02, (outs, groups)).astype(kind)
    return codes, scales, zeros, np.arange(ins) // -(-ins // groups)


def pack(codes, scales, zeros, group_of, bits, *, less_one=True):
    """The parts of a module, word by word."""
    columns = [bit_stream(row, bits) for row in codes]  # a row of the matrix is a column of qweight
    stored = (zeros - 1) % 2**bits if less_one else zeros
    return {
        "qweight": as_int32(columns).T,
        "qzeros": as_int32([bit_stream(group, bits) for group in stored.T]),
        "scales": scales.T,
        "g_idx": group_of.astype(np.int32),
    }


def exact(codes, scales, zeros, group_of):
    """The definition, in float64: nothing is rounded."""
    wide = scales.astype(np.float64)
    return (codes - zeros[:, group_of]) * wide[:, group_of]
