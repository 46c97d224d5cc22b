"""Random layers of every kind, to multiply with."""

import ml_dtypes
import numpy as np

from pytest_quantbench.quantizers.layer import Affine, Codebooks, Columns, Layer, LowRank, Microscaled, Sparse
from pytest_quantbench.quantizers.numerics.bit_packing import pack
from pytest_quantbench.quantizers.numerics.microscaled_formats import FORMATS, rounded

TYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}


def affine(rng, *, outs, ins, bits, group, centred=True, scales="float16"):
    padded = -(-ins // group) * group
    codes = pack(rng.integers(0, 2**bits, (outs, padded)).astype(np.uint8), bits).view(np.uint32)
    sizes = (rng.standard_normal((outs, padded // group)) * 0.1).astype(TYPES[scales])
    biases = -(2 ** (bits - 1)) * sizes if centred else rng.standard_normal(sizes.shape)
    return Affine(codes=codes, scales=sizes, biases=biases.astype(TYPES[scales]), bits=bits, in_features=ins)


def microscaled(rng, *, outs, ins, name):
    padded = -(-ins // 32) * 32
    codes, scales = rounded(rng.standard_normal((outs, padded)).astype(np.float32) * np.float32(0.03), FORMATS[name])
    return Microscaled(codes=codes, scales=scales, form=FORMATS[name], in_features=ins)


def codebooks(rng, *, outs, ins, stages, words, length, along="inputs", row_scales=True):
    shape = (-(-outs // length), ins) if along == "outputs" else (outs, -(-ins // length))
    return Codebooks(
        codes=rng.integers(0, words, (stages, *shape)).astype(np.uint8 if words <= 256 else np.uint16),
        words=rng.standard_normal((stages, words, length)).astype(np.float16),
        scales=(rng.standard_normal(outs if row_scales else 1) * 0.1).astype(ml_dtypes.bfloat16),
        along=along,
        out_features=outs,
        in_features=ins,
    )


def low_rank(rng, outs, ins, rank):
    left, right = (rng.standard_normal((rank, size)).astype(np.float32) for size in (outs, ins))
    return LowRank(left=left * np.float32(0.1), right=right)


def sparse(rng, outs, ins, count):
    places = rng.choice(outs * ins, count, replace=False)
    at = np.stack(np.unravel_index(places, (outs, ins)), axis=1).astype(np.int32)
    return Sparse(places=at, values=rng.standard_normal(count).astype(np.float16) * np.float16(3))


def columns(rng, outs, ins, count):
    places = np.sort(rng.choice(ins, count, replace=False)).astype(np.int32)
    return Columns(places=places, values=rng.standard_normal((outs, count)).astype(np.float32))


def relative_error(module, layer_or_matrix, tokens, rng):
    """Of a product's outputs in float32, against the slow definition in float64."""
    import torch

    from pytest_quantbench.quantizers.layer_matrix import matrix

    dense = matrix(layer_or_matrix) if isinstance(layer_or_matrix, Layer) else layer_or_matrix
    inputs = rng.standard_normal((tokens, dense.shape[1])).astype(np.float32)
    wanted = inputs.astype(np.float64) @ dense.astype(np.float64).T
    found = module(torch.from_numpy(inputs)).numpy()
    assert found.shape == wanted.shape
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
