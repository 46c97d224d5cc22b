"""AWQ's modules in both forms, packed word by word from the layouts' description."""

import numpy as np
from checkpoints.formats.hub_checkpoints import as_int32, bit_stream

CONFIG = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}


def drawn(outs=16, ins=64, groups=2, *, seed=0, kind=np.float16):
    """Codes, scales and zero points."""
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.001, 0.02, (outs, groups)).astype(kind)
    return rng.integers(0, 16, (outs, ins)), scales, rng.integers(0, 16, (outs, groups))


def eights(rows):
    """(rows, columns) codes → words: column 1 of eight lies in nibble 4, column 2 in nibble 1, and so on."""
    nibble_of = {0: 0, 1: 4, 2: 1, 3: 5, 4: 2, 5: 6, 6: 3, 7: 7}
    words = np.zeros((rows.shape[0], rows.shape[1] // 8), np.uint32)
    for (row, column), code in np.ndenumerate(rows):
        words[row, column // 8] |= np.uint32(int(code) << 4 * nibble_of[column % 8])
    return words.view(np.int32)


def gemm(codes, scales, zeros):
    """The parts of a module, outputs across."""
    return {"qweight": eights(codes.T), "qzeros": eights(zeros.T), "scales": scales.T}


def gemv(codes, scales, zeros, *, words=1):
    """The parts of a module, inputs across; rows of scales are filled up to a number of words."""
    filled = ((0, 0), (0, 8 * words - scales.shape[1]))
    return {
        "qweight": as_int32([bit_stream(row, 4) for row in codes]),
        "qzeros": as_int32([bit_stream(row, 4) for row in np.pad(zeros, filled)]),
        "scales": np.pad(scales, filled),
    }


def exact(codes, scales, zeros):
    """The definition, in float64: nothing is rounded."""
    group = codes.shape[1] // scales.shape[1]
    return (codes - np.repeat(zeros, group, axis=1)) * np.repeat(scales.astype(np.float64), group, axis=1)
