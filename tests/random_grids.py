"""Random grids of every kind that layers have."""

import numpy as np

from pytest_quantbench.quantizers.layer import Affine, Codebooks, Microscaled
from pytest_quantbench.quantizers.numerics import e8_lattice
from pytest_quantbench.quantizers.numerics.bit_packing import pack
from pytest_quantbench.quantizers.numerics.microscaled_formats import FORMATS


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


def codebooks(along, rows, columns, length=8, stages=2, words=256, shared=False, seed=0):
    """`shared`: one scale for all rows."""
    generator = np.random.default_rng(seed)
    vectors = (rows, -(-columns // length)) if along == "inputs" else (-(-rows // length), columns)
    return Codebooks(
        codes=generator.integers(0, words, (stages, *vectors)).astype(np.uint8 if words <= 256 else np.uint16),
        words=generator.standard_normal((stages, words, length)).astype(np.float16),
        scales=generator.standard_normal(1 if shared else rows).astype(np.float32),
        along=along,
        out_features=rows,
        in_features=columns,
    )


def lattice(bits, rows, columns, seed=0):
    """The words of QuIP#."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 65536, (1 if bits == 2 else 2, rows, -(-columns // 8))).astype(np.uint16)
    if bits == 3:
        codes[1] &= 255
    return Codebooks(
        codes=codes,
        words=e8_lattice.stages(bits),
        scales=generator.standard_normal(rows).astype(np.float32),
        along="inputs",
        out_features=rows,
        in_features=columns,
    )
