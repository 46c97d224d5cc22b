"""Products with affine and microscaled grids, in Triton's interpreter."""

import ml_dtypes
import numpy as np
import pytest
import torch
from random_grids import affine, microscaled
from right_products import CPU, LIMIT, distance, expected, inputs

from pytest_quantbench.engines.torch.kernels import cuda
from pytest_quantbench.engines.torch.kernels.cuda.coded_product import Coded
from pytest_quantbench.quantizers.layer import Layer, LowRank, Rotation, Sparse

WIDE = [(bits, group) for bits in (2, 3, 4, 8) for group in (32, 64, 128)]


def agrees(layer, tokens, dtype=torch.bfloat16, columns=None):
    """The sums, in float32, and as they are given out, beyond what rounding to 16 bits does to any number."""
    assert any(kernel.fits(layer, CPU, dtype) for kernel in cuda.KERNELS)
    product, x = Coded(layer, CPU, "codes"), inputs(tokens, layer.grid.in_features, dtype)
    right = expected(layer, x)
    assert distance(product.product(x, torch.float32), right) < LIMIT / 100
    given = product(x)
    assert given.dtype == dtype
    rounded = right.to(dtype).double()
    assert (
        (given.double() - rounded).abs() <= 2 * torch.finfo(dtype).eps * right.abs() + LIMIT * right.abs().mean()
    ).all()


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_width(bits, tokens):
    agrees(Layer(grid=affine(bits, 5, 256, 64)), tokens)


@pytest.mark.parametrize("tokens", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["mxfp4", "mxfp8", "nvfp4"])
def test_every_format(form, tokens):
    agrees(Layer(grid=microscaled(form, 5, 128), scale=np.array([0.3], np.float32)), tokens)


@pytest.mark.parametrize("tokens", [1, 3])
def test_rows_that_end_within_a_stripe_and_one_row_alone(tokens):
    agrees(Layer(grid=affine(4, 1, 96, 32, cut=7)), tokens)
    agrees(Layer(grid=affine(3, 7, 192, 64, cut=50)), tokens)


def test_nothing_is_read_behind_the_scales():
    """The last stripe of 128 columns has room for a group more than the row has: what lies behind it is no number."""
    grid = affine(3, 4, 192, 64)
    product, x = Coded(Layer(grid=grid), CPU, "codes"), inputs(1, 192)
    for name in ("scales", "biases"):
        behind = torch.cat([getattr(product, name).flatten(), torch.full((8,), torch.nan, dtype=torch.float16)])
        setattr(product, name, behind[:-8].view(4, 3))
    assert distance(product.product(x, torch.float32), expected(Layer(grid=grid), x)) < LIMIT / 100


@pytest.mark.parametrize("tokens", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_single_scale_for_a_row_of_any_length(tokens):
    agrees(Layer(grid=affine(8, 3, 108, 108)), tokens)


@pytest.mark.parametrize("tokens", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_codes_that_count_from_the_middle_need_no_biases(tokens):
    layer = Layer(grid=affine(4, 5, 128, 32, symmetric=True))
    assert Coded(layer, CPU, "codes").biases is None
    agrees(layer, tokens)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32])
def test_scales_of_every_type(dtype):
    agrees(Layer(grid=affine(4, 3, 64, 32, dtype=dtype)), 1)
    agrees(Layer(grid=affine(4, 3, 64, 32, dtype=dtype)), 2)


@pytest.mark.parametrize("tokens", [1, 2])
def test_single_weights_and_a_low_rank_product_beside_it(tokens):
    generator = np.random.default_rng(0)
    sparse = Sparse(
        places=np.array([[5, 3], [0, 1], [5, 7], [8, 100]], np.int32), values=np.array([1, 2, 3, -4], np.float32)
    )
    left, right = (np.float32(0.1) * generator.standard_normal((3, n)).astype(np.float32) for n in (9, 128))
    grid = affine(4, 9, 128, 64)
    agrees(Layer(grid=grid, sparse=sparse), tokens)
    layer = Layer(grid=grid, sparse=sparse, low_rank=LowRank(left=left, right=right))
    product, x = Coded(layer, CPU, "codes"), inputs(tokens, 128)
    assert distance(product.product(x, torch.float32), expected(layer, x)) < LIMIT


def test_activations_in_float16():
    agrees(Layer(grid=affine(4, 3, 64, 32)), 1, torch.float16)
    agrees(Layer(grid=affine(4, 3, 64, 32)), 2, torch.float16)


def test_rotated_inputs_are_as_long_as_the_padded_rows():
    grid = affine(4, 3, 64, 32, cut=5)
    layer = Layer(
        grid=grid, rotation=Rotation(input_signs=np.ones(64, np.float32), output_signs=np.ones(3, np.float32))
    )
    assert Coded(layer, CPU, "codes").columns == 64
    assert Coded(Layer(grid=grid), CPU, "codes").columns == 59


def test_inputs_of_more_dimensions_and_what_a_step_reads():
    grid = affine(4, 6, 64, 32)
    product = Coded(Layer(grid=grid), CPU, "codes")
    assert product(inputs(6, 64).reshape(2, 3, 64)).shape == (2, 3, 6)
    assert product.bytes_per_token == grid.codes.nbytes + grid.scales.nbytes + grid.biases.nbytes


def test_large_and_small_inputs_keep_their_sizes():
    layer = Layer(grid=affine(4, 4, 64, 32))
    product, x = Coded(layer, CPU, "codes"), inputs(1, 64)
    for size in (2.0**24, 2.0**-60):
        assert distance(product.product(x * size, torch.float32), expected(layer, x * size)) < LIMIT / 100


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 2, 5, 16, 17])
@pytest.mark.parametrize("rows", [1, 17, 130])
@pytest.mark.parametrize(("bits", "group"), WIDE)
def test_shapes_groups_and_tokens(bits, group, rows, tokens):
    agrees(Layer(grid=affine(bits, rows, 3 * 128, group, cut=3)), tokens)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 2, 5, 16])
@pytest.mark.parametrize("form", ["mxfp4", "mxfp8", "nvfp4"])
def test_formats_and_tokens(form, tokens):
    agrees(Layer(grid=microscaled(form, 33, 3 * 128, cut=9)), tokens)
