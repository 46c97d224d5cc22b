"""Affine and microscaled matrices by compiled kernels, against what they stand for in numpy."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llvmlite")

from engines.torch.kernels.cpu import layers_of_noise as noise
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.engines.torch.kernels import product_for
from pytest_quantbench.engines.torch.kernels.cpu.codes_in_groups import fits, product
from pytest_quantbench.engines.torch.kernels.cpu.machine_code import PORTABLE, instructions
from pytest_quantbench.engines.torch.kernels.cpu.product import BLOCK_BYTES
from pytest_quantbench.quantizers.layer import Layer, PerToken
from pytest_quantbench.quantizers.layer_matrix import matrix

CPU = torch.device("cpu")
WIDTHS = [instructions(), PORTABLE]
ids = {"ids": ["this CPU", "portable"]}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def error(layer, tokens, rng, cpu=None):
    return noise.relative_error(product(layer, cpu or instructions()), layer, tokens, rng)


@pytest.mark.parametrize("cpu", WIDTHS, **ids)
@pytest.mark.parametrize("bits", [3, 4, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (2, 5, 6, 8))])
def test_codes_of_any_width(bits, cpu, rng):
    """Rows that fill no tile, padding within a group, and as many tokens as are done together, and one more."""
    layer = Layer(grid=noise.affine(rng, outs=37, ins=200, bits=bits, group=64))
    assert error(layer, 5, rng, cpu) < 1e-6


@pytest.mark.parametrize("cpu", WIDTHS, **ids)
@pytest.mark.parametrize("name", ["mxfp4", "mxfp8", "nvfp4"])
def test_microscaled_codes(name, cpu, rng):
    assert error(Layer(grid=noise.microscaled(rng, outs=33, ins=96, name=name)), 1, rng, cpu) < 1e-6


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8"])
@pytest.mark.parametrize("cpu", WIDTHS, **ids)
def test_the_smallest_scale_is_not_zero(name, cpu, rng):
    """E8M0's 0 is 2^-127, for which float32 has no normal number."""
    made = noise.microscaled(rng, outs=16, ins=32, name=name)
    layer = Layer(grid=dataclasses.replace(made, scales=np.zeros_like(made.scales)))
    found = product(layer, cpu)(torch.full((1, 32), 2.0**110))
    expected = matrix(layer).astype(np.float64).sum(1) * 2.0**110
    assert np.abs(expected).max() > 1e-6
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8", "nvfp4"])
@pytest.mark.parametrize("cpu", WIDTHS, **ids)
def test_every_microscaled_code_is_the_number_that_it_stands_for(name, cpu):
    """A matrix with all codes in its first column, times one: exactly."""
    made = noise.microscaled(np.random.default_rng(0), outs=256, ins=32, name=name)
    codes = made.codes.view(np.uint8).copy()
    codes[:, 0] = np.arange(256) if made.bits == 8 else np.arange(256) % 16
    if made.bits == 8:
        codes[[127, 255], 0] = 0  # NaN, which is never written
    layer = Layer(grid=type(made)(codes=codes.view(np.uint32), scales=made.scales, form=made.form, in_features=32))
    first = np.zeros((1, 32), np.float32)
    first[0, 0] = 1
    assert np.array_equal(product(layer, cpu)(torch.from_numpy(first)).numpy()[0], matrix(layer)[:, 0])


@pytest.mark.parametrize("scales", ["float16", "bfloat16", "float32"])
def test_biases_and_scales_of_any_type(scales, rng):
    grid = noise.affine(rng, outs=32, ins=256, bits=4, group=128, centred=False, scales=scales)
    assert error(Layer(grid=grid), 1, rng) < 1e-6


def test_biases_that_centre_the_codes_are_not_read(rng):
    """A nibble's biases are −8 of its scales: 4 + 16 / 64 bits per weight."""
    module = product(Layer(grid=noise.affine(rng, outs=64, ins=256, bits=4, group=64)), instructions())
    assert module.bytes_per_token == 64 * 256 * (4 + 16 / 64) / 8
    beside = product(Layer(grid=noise.affine(rng, outs=64, ins=256, bits=4, group=64, centred=False)), instructions())
    assert beside.bytes_per_token == 64 * 256 * (4 + 32 / 64) / 8


@pytest.mark.parametrize("cpu", WIDTHS, **ids)
def test_everything_that_a_layer_has_beside_its_grid(cpu, rng):
    layer = Layer(
        grid=noise.affine(rng, outs=45, ins=100, bits=3, group=32, centred=False),
        input_scales=rng.standard_normal(100).astype(np.float32),
        scale=np.array([0.5], np.float32),
        sparse=noise.sparse(rng, 45, 100, 30),
        low_rank=noise.low_rank(rng, 45, 100, 3),
    )
    module = product(layer, cpu)
    assert module.covers == {"grid", "input_scales", "scale", "sparse", "low_rank", "columns"}
    assert noise.relative_error(module, layer, 6, rng) < 1e-6


def test_columns_replace_what_the_grid_says_of_their_inputs(rng):
    low_rank = noise.low_rank(rng, 40, 64, 2)
    layer = Layer(grid=noise.affine(rng, outs=40, ins=64, bits=2, group=64), columns=noise.columns(rng, 40, 64, 5))
    assert error(layer, 2, rng) < 1e-6
    both = Layer(grid=layer.grid, columns=layer.columns, low_rank=low_rank)
    assert error(both, 2, rng) < 1e-6
    assert not fits(Layer(grid=layer.grid, columns=layer.columns, sparse=noise.sparse(rng, 40, 64, 1)), CPU, None)


def test_the_inputs_stay_as_they_were(rng):
    layer = Layer(grid=noise.affine(rng, outs=8, ins=64, bits=2, group=64), columns=noise.columns(rng, 8, 64, 5))
    inputs = torch.ones(1, 64)
    product(layer, instructions())(inputs)
    assert torch.equal(inputs, torch.ones(1, 64))


def test_a_rule_for_inputs_comes_between_their_scales_and_the_kernel(rng):
    """So that whoever builds the layer has to do both."""
    grid = noise.affine(rng, outs=8, ins=64, bits=4, group=64)
    layer = Layer(grid=grid, input_scales=np.ones(64, np.float32), input_rule=PerToken(bits=8))
    assert not product(layer, instructions()).covers & {"input_scales", "input_rule"}


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 100), st.integers(1, 300), st.sampled_from([32, 128]), st.integers(1, 9), st.integers(0, 2**32))
def test_any_shape(outs, ins, group, tokens, seed):
    rng = np.random.default_rng(seed)
    layer = Layer(grid=noise.affine(rng, outs=outs, ins=ins, bits=4, group=group))
    assert error(layer, tokens, rng) < 1e-5


def test_many_tokens_go_through_a_large_matrix_block_by_block(rng):
    """Of 256 KB each: all tokens with some rows, before the next rows are read."""
    layer = Layer(grid=noise.affine(rng, outs=1500, ins=512, bits=8, group=128))
    module = product(layer, instructions())
    assert module.bytes_per_token > 2 * BLOCK_BYTES
    assert noise.relative_error(module, layer, 9, rng) < 1e-6


def test_groups_that_are_no_whole_words_are_left_to_others(rng):
    grid = noise.affine(rng, outs=8, ins=96, bits=3, group=48)
    assert not fits(Layer(grid=grid), CPU, torch.float32)
    assert product_for(Layer(grid=grid), lambda: np.ones((8, 96), np.float32), CPU, torch.float32).kernel == "decoded"


def test_the_table_takes_it_for_a_cpu_alone(rng):
    layer = Layer(grid=noise.affine(rng, outs=8, ins=64, bits=4, group=64))
    assert product_for(layer, lambda: np.ones((8, 64)), CPU, torch.float32).kernel == "lanes, 4 bits"
