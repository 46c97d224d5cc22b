"""Random grids of every kind, and what a kernel's product is held to."""

import numpy as np
import torch

from pytest_quantbench.quantizers.layer import Affine, Layer, Microscaled
from pytest_quantbench.quantizers.layer_matrix import matrix
from pytest_quantbench.quantizers.numerics.bit_packing import pack
from pytest_quantbench.quantizers.numerics.microscaled_formats import FORMATS

CPU = torch.device("cpu")
LIMIT = 1e-3  # of the product's size


def affine(bits, rows, columns, group, cut=0, dtype=np.float16, symmetric=False, seed=0):
    """`cut`: how many of the columns are padding."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 2**bits, (rows, columns)).astype(np.uint8)
    scales = (0.01 * generator.standard_normal((rows, columns // group))).astype(dtype)
    middle = scales.dtype.type(2 ** (bits - 1))
    offsets = (0.05 * generator.standard_normal(scales.shape)).astype(dtype)
    return Affine(
        codes=pack(codes, bits).view(np.uint32),
        scales=scales,
        biases=-middle * scales if symmetric else offsets,
        bits=bits,
        in_features=columns - cut,
    )


def microscaled(name, rows, columns, cut=0, seed=0):
    form, generator = FORMATS[name], np.random.default_rng(seed)
    codes = generator.integers(0, 2**form.bits, (rows, columns)).astype(np.uint8)
    if form.bits == 8:
        codes[codes & 0x7F == 0x7F] = 0  # no number
    low, high = (100, 140) if form.powers_of_two else (0, 127)
    scales = generator.integers(low, high, (rows, columns // form.group)).astype(np.uint8)
    return Microscaled(
        codes=pack(codes, form.bits).view(np.uint32), scales=scales, form=form, in_features=columns - cut
    )


def inputs(tokens, columns, dtype=torch.bfloat16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, columns, generator=generator).to(dtype)


def expected(layer: Layer, x):
    """In float64, of the decoded matrix and the same inputs."""
    return x.double() @ torch.from_numpy(matrix(layer)).double().T


def distance(found, right):
    """‖found − right‖ / ‖right‖. NaN is no distance."""
    assert found.shape == right.shape
    assert torch.isfinite(found).all()
    return ((found.double() - right).norm() / right.norm()).item()
