"""Every type of block: the very numbers of the `gguf` package, layers that give them too, and bad scales."""

import math
import time

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf_models import random_blocks

from pytest_quantbench.checkpoints.formats.gguf_codecs import HALVES, KQUANT_BITS, GgufBlocks, block_of, is_finite
from pytest_quantbench.quantizers.layer import Affine
from pytest_quantbench.quantizers.numerics import affine_rounding, microscaled_formats

NATIVE = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8, "Q4_K": 4, "Q5_K": 5, "MXFP4": 4, "NVFP4": 4}
DEQUANTIZED = sorted(kind.name for kind in gguf.quants._type_traits if kind.name != "BF16")


def test_every_type_that_the_package_dequantizes_is_read():
    assert sorted(HALVES) == DEQUANTIZED


@pytest.mark.parametrize("kind", DEQUANTIZED)
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_decoded_as_the_package_does_it(kind, rows):
    blocks = random_blocks(kind, rows, 512, seed=rows)
    found = GgufBlocks(kind=kind).decode({"blocks": blocks})
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, gguf.dequantize(blocks, Kind[kind]))


@pytest.mark.parametrize("kind", DEQUANTIZED)
def test_layers_give_the_very_numbers(kind):
    blocks = random_blocks(kind, 9, 768, seed=3)
    if kind == "NVFP4":
        blocks.reshape(-1, 36)[:, :4] &= 0x7F
        blocks.reshape(-1, 36)[:, :4][blocks.reshape(-1, 36)[:, :4] == 0x7F] = 3
    layer = GgufBlocks(kind=kind).layer({"blocks": blocks})
    if kind not in NATIVE:
        assert layer is None
        return
    grid = layer.grid
    assert layer.is_grid_alone
    assert (grid.bits, grid.in_features, grid.group) == (NATIVE[kind], 768, 16 if kind == "NVFP4" else 32)
    if isinstance(grid, Affine):
        found = affine_rounding.decoded(grid.codes.view(np.uint8), grid.scales, grid.biases, grid.bits)
    else:
        found = microscaled_formats.decoded(grid.codes, grid.scales, grid.form)
    np.testing.assert_array_equal(found, GgufBlocks(kind=kind).decode({"blocks": blocks}))


def test_scales_that_e4m3_and_ggml_read_differently_run_decoded():
    blocks = random_blocks("NVFP4", 2, 64)
    blocks[:, :4] = 1
    assert GgufBlocks(kind="NVFP4").layer({"blocks": blocks}) is not None
    for scale in (0x7F, 0x81):
        blocks[1, 2] = scale
        assert GgufBlocks(kind="NVFP4").layer({"blocks": blocks}) is None


@pytest.mark.parametrize("kind", DEQUANTIZED)
def test_blocks_that_decode_to_no_numbers_are_known_without_decoding(kind):
    """Block by block, of random bytes: told finite only where they are; of MXFP4 the largest scales are refused even
    where the codes under them are small.
    """
    _, size = block_of(kind)
    blocks = np.random.default_rng(1).integers(0, 256, (3000, size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        finite = np.isfinite(gguf.dequantize(blocks, Kind[kind])).all(1)
    told = np.array([is_finite(each[None], kind) for each in blocks])
    if kind == "MXFP4":
        assert not (told & ~finite).any()
        assert (finite & ~told).sum() < 20
    else:
        np.testing.assert_array_equal(told, finite)
    assert told.any()
    assert told.all() == (kind == "NVFP4")
    assert is_finite(blocks, kind) == told.all()


def test_an_infinite_scale_under_codes_of_zero_is_told():
    """Infinity times nothing is no number."""
    blocks = np.zeros((1, 18), np.uint8)
    blocks[0, :2] = np.array([np.inf], np.float16).view(np.uint8)
    assert not is_finite(blocks, "Q4_0")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"])
def test_decoding_is_not_slower_than_the_package(kind):
    blocks = random_blocks(kind, 2048, 4096)
    best = {"package": math.inf, "here": math.inf}
    decoders = {
        "package": lambda: gguf.dequantize(blocks, Kind[kind]),
        "here": lambda: GgufBlocks(kind=kind).decode({"blocks": blocks}),
    }
    for _ in range(7):
        for name, decode in decoders.items():
            start = time.perf_counter()
            decode()
            best[name] = min(best[name], time.perf_counter() - start)
    assert best["here"] < 2 * best["package"]  # on an idle machine: less


def test_k_quants_are_our_own_recipes_blocks():
    assert KQUANT_BITS == {"Q2_K": 2, "Q3_K": 3, "Q4_K": 4, "Q5_K": 5, "Q6_K": 6}
