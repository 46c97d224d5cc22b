"""K-quant blocks: against a decoder that reads one weight at a time, and against the gguf package."""

import numpy as np
import pytest

from pytest_quantbench.quantizers.numerics import kquant_blocks
from pytest_quantbench.quantizers.numerics.kquant_blocks import LAYOUTS

SIZES = {2: 84, 3: 110, 4: 144, 5: 176, 6: 210}


def random_blocks(bits, count=40, seed=0):
    """Random bytes, but finite float16 numbers of every size, negative and subnormal ones too."""
    rng = np.random.default_rng(seed)
    packed = rng.integers(0, 256, (count, SIZES[bits]), dtype=np.uint8)
    start = 0
    for name, length in LAYOUTS[bits].fields:
        if name in ("d", "dmin"):
            numbers = rng.standard_normal(count) * 10.0 ** rng.integers(-7, 4, count)
            packed[:, start : start + 2] = numbers.astype("<f2").view(np.uint8).reshape(-1, 2)
        start += length
    return packed


def half(low, high):
    return np.array([low, high], np.uint8).view("<f2")[0].astype(np.float32)


def six_bits(packed, index):
    """Scale and minimum of a sub-block of Q4_K or Q5_K from its 12 bytes."""
    if index < 4:
        return packed[index] & 63, packed[index + 4] & 63
    scale = (packed[index + 4] & 15) | (packed[index - 4] >> 6) << 4
    return scale, packed[index + 4] >> 4 | (packed[index] >> 6) << 4


def slow_weight(block, bits, i):
    """Weight i of a block, from ggml-common.h's description of the fields."""
    block = [int(byte) for byte in block]
    half_block, lane, pair = i // 128, i % 32, i % 128 // 32
    if bits in (2, 3):
        codes = block[16:80] if bits == 2 else block[32:96]
        code = codes[32 * half_block + lane] >> 2 * pair & 3
        if bits == 2:
            scale, minimum = block[i // 16] & 15, block[i // 16] >> 4
            return half(*block[80:82]) * np.float32(scale) * np.float32(code) - half(*block[82:84]) * np.float32(
                minimum
            )
        code -= 0 if block[lane] >> i // 32 & 1 else 4
        scales, j = block[96:108], i // 16
        low = scales[j] & 15 if j < 8 else scales[j - 8] >> 4
        scale = (low | (scales[8 + j % 4] >> 2 * (j // 4) & 3) << 4) - 32
        return half(*block[108:110]) * np.float32(scale) * np.float32(code)
    if bits == 6:
        low = block[64 * half_block + i % 64] >> 4 * (i % 128 // 64) & 15
        high = block[128 + 32 * half_block + lane] >> 2 * pair & 3
        scale = (block[192 + i // 16] + 128) % 256 - 128
        return half(*block[208:210]) * np.float32(scale) * np.float32((low | high << 4) - 32)
    codes = block[16:144] if bits == 4 else block[48:176]
    code = codes[32 * (i // 64) + lane] >> 4 * (i % 64 // 32) & 15
    if bits == 5:
        code |= (block[16 + lane] >> i // 32 & 1) << 4
    scale, minimum = six_bits(block[4:16], i // 32)
    return half(*block[:2]) * np.float32(scale) * np.float32(code) - half(*block[2:4]) * np.float32(minimum)


@pytest.mark.parametrize("bits", SIZES)
def test_decoding_agrees_with_a_slow_reader_to_the_last_bit(bits):
    packed = random_blocks(bits, 6)
    slow = np.array([[slow_weight(block, bits, i) for i in range(256)] for block in packed], np.float32)
    np.testing.assert_array_equal(kquant_blocks.dequantize(packed, bits).view(np.uint32), slow.view(np.uint32))


@pytest.mark.parametrize("bits", SIZES)
def test_decoding_agrees_with_gguf_to_the_last_bit(bits):
    gguf = pytest.importorskip("gguf")
    packed = random_blocks(bits, 2000)
    theirs = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[LAYOUTS[bits].name])
    np.testing.assert_array_equal(kquant_blocks.dequantize(packed, bits).view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize("bits", SIZES)
def test_packing_undoes_unpacking(bits):
    packed = random_blocks(bits)
    blocks = kquant_blocks.unpack(packed, bits)
    np.testing.assert_array_equal(kquant_blocks.pack(blocks, bits), packed)


@pytest.mark.parametrize("bits", SIZES)
def test_every_integer_of_a_type_survives(bits):
    layout = LAYOUTS[bits]
    rng = np.random.default_rng(1)
    shape = (50, 256 // layout.sub)
    minimums = rng.integers(0, layout.top + 1, shape) if layout.minimums else np.zeros(shape)
    blocks = kquant_blocks.Blocks(
        codes=rng.integers(0, 2**bits, (50, 256)).astype(np.uint8),
        scales=rng.integers(layout.bottom, layout.top + 1, shape).astype(np.int16),
        minimums=minimums.astype(np.int16),
        d=rng.standard_normal(50).astype(np.float16),
        dmin=rng.standard_normal(50).astype(np.float16) * layout.minimums,
    )
    again = kquant_blocks.unpack(kquant_blocks.pack(blocks, bits), bits)
    for field in ("codes", "scales", "minimums", "d", "dmin"):
        np.testing.assert_array_equal(getattr(again, field), getattr(blocks, field), err_msg=field)


@pytest.mark.parametrize("bits", SIZES)
def test_blocks_have_the_published_sizes(bits):
    assert LAYOUTS[bits].size == SIZES[bits]
    assert LAYOUTS[bits].size * 8 / 256 == {2: 2.625, 3: 3.4375, 4: 4.5, 5: 5.5, 6: 6.5625}[bits]


@pytest.mark.parametrize("bits", SIZES)
def test_multipliers_are_what_decoding_uses(bits):
    packed, layout = random_blocks(bits), LAYOUTS[bits]
    blocks = kquant_blocks.unpack(packed, bits)
    scales, minimums = kquant_blocks.multipliers(blocks)
    codes = blocks.codes.reshape(*scales.shape, layout.sub).astype(np.float32) - layout.offset
    weights = codes * scales[:, :, None] - minimums[:, :, None]
    np.testing.assert_array_equal(weights.reshape(-1, 256), kquant_blocks.dequantize(packed, bits))
