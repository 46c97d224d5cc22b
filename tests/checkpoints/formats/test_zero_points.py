"""Grids with zero points: MLX's own kernels decode and multiply the same matrix that `decode` gives."""

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from checkpoints.formats import pack_awq, pack_gptq, pack_hqq
from quantizers.contract import layer_outputs

from pytest_quantbench.checkpoints.formats import zero_points
from pytest_quantbench.checkpoints.formats.awq import AwqGemm, AwqGemv
from pytest_quantbench.checkpoints.formats.gptq import Gptq
from pytest_quantbench.checkpoints.formats.hqq import Hqq
from pytest_quantbench.engines.mlx.arrays import to_mlx

INS = 128
CASES = {
    **{
        f"gptq, {bits} bits": (
            Gptq(bits=bits, group=64, in_features=INS, less_one=True),
            pack_gptq.pack(*pack_gptq.drawn(32, INS, bits, 2), bits),
        )
        for bits in (2, 3, 4, 8)
    },
    "awq": (AwqGemm(), pack_awq.gemm(*pack_awq.drawn(32, INS, 2))),
    "awq, gemv": (AwqGemv(groups=2), pack_awq.gemv(*pack_awq.drawn(32, INS, 2))),
    "hqq": (
        Hqq(packing="4bit_u8", shape=(32, INS), group=64, axis=1),
        pack_hqq.pack(pack_hqq.drawn((32, INS), "4bit_u8", 64), "4bit_u8", (32, INS), 64, 1),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_mlx_decodes_to_the_last_bit(case):
    codec, arrays = CASES[case]
    grid = codec.layer(arrays).grid
    words, scales, biases = (to_mlx(np.ascontiguousarray(each)) for each in (grid.codes, grid.scales, grid.biases))
    dense = mx.dequantize(words, scales, biases, group_size=grid.group, bits=grid.bits)
    assert np.array_equal(np.array(dense.astype(mx.float32)), codec.decode(arrays))


@pytest.mark.parametrize("case", CASES)
def test_mlx_multiplies_by_the_same_matrix(case):
    codec, arrays = CASES[case]
    inputs = np.random.default_rng(0).standard_normal((3, INS)).astype(np.float32)
    expected = inputs @ codec.decode(arrays).T
    np.testing.assert_allclose(layer_outputs(codec, arrays, inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_every_scale_that_16_bits_hold_gives_the_same_numbers_both_ways(kind):
    """Whole zero points with scales from the type's whole range, those below its full precision among them."""
    with np.errstate(invalid="ignore"):
        scales = np.arange(0, 1 << 16, 7, dtype=np.uint16).view(kind).reshape(-1, 1)
        scales = scales[np.abs(scales[:, 0].astype(np.float64)) < 1e30]  # no NaN, and products do not overflow
    codes = np.tile(np.arange(256, dtype=np.uint8), (len(scales), 1))
    zeros = np.random.default_rng(0).integers(0, 256, scales.shape)
    wide = scales.astype(np.float32)
    affine = codes * wide + -zeros.astype(np.float32) * wide
    assert np.array_equal(zero_points.decoded(codes, scales, zeros), affine)
