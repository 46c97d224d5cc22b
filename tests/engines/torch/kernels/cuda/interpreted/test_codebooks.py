"""Products with matrices of codebooks' words, in Triton's interpreter."""

import numpy as np
import pytest
import torch
from random_grids import codebooks, lattice
from right_products import CPU, LIMIT, distance, expected, inputs

from pytest_quantbench.engines.torch.kernels import cuda
from pytest_quantbench.engines.torch.kernels.cuda.codebook_operators import Kind
from pytest_quantbench.engines.torch.kernels.cuda.codebook_product import Worded
from pytest_quantbench.quantizers.layer import Codebooks, Columns, Layer, Rotation


def agrees(layer, tokens, limit=LIMIT / 20):
    assert cuda.KERNELS[1].fits(layer, CPU, torch.bfloat16)
    product, x = Worded(layer, CPU, "words"), inputs(tokens, layer.grid.in_features)
    assert distance(product.product(x, torch.float32), expected(layer, x)) < limit
    rounded = product(x[None])
    assert rounded.dtype == torch.bfloat16
    assert rounded.shape == (1, tokens, layer.grid.out_features)
    return Kind(*product.kind)


def dense(rows, places=(3, 10, 33)):
    generator = np.random.default_rng(1)
    values = generator.standard_normal((rows, len(places))).astype(np.float32)
    return Columns(places=np.array(places, np.int32), values=values)


@pytest.mark.parametrize("tokens", [1, 3])
def test_aqlm_goes_by_tables(tokens):
    assert agrees(Layer(grid=codebooks("inputs", 19, 60)), tokens).tiled


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_vptq_with_its_outliers(tokens, shared):
    grid = codebooks("outputs", 19, 60, shared=shared)
    assert not agrees(Layer(grid=grid, columns=dense(19)), tokens, LIMIT).tiled


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 3])
def test_dense_columns_of_vectors_along_the_inputs(tokens):
    agrees(Layer(grid=codebooks("inputs", 17, 60), columns=dense(17)), tokens, LIMIT)
    agrees(Layer(grid=codebooks("inputs", 5, 60, words=512), columns=dense(5)), tokens, LIMIT)


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("bits", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_lattices(bits, tokens):
    assert agrees(Layer(grid=lattice(bits, 9, 60)), tokens).lattice == bits


@pytest.mark.slow
def test_every_word_of_the_lattice_is_worked_out():
    """8 rows of 8,192 codes, against the table: one wrong word would be a hundredth of its row's sum."""
    codes = np.arange(65536, dtype=np.uint16).reshape(1, 8, 8192)
    words = lattice(2, 1, 8).words
    every = Codebooks(codes=codes, words=words, scales=np.ones(1), along="inputs", out_features=8, in_features=65536)
    agrees(Layer(grid=every), 1)


def test_a_lattice_is_one_array_for_all_matrices_and_is_not_read_in_a_step():
    first, second = (Worded(Layer(grid=lattice(2, rows, 64)), CPU, "words") for rows in (4, 8))
    assert first.all_words is second.all_words
    assert second.bytes_per_token == 8 * 8 * 2 + 4 * 8 + 256 * 4  # codes, scales, and the rows of sizes


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("along", ["inputs", "outputs"])
def test_short_vectors_and_small_codebooks(along, tokens):
    """What a small matrix has."""
    agrees(Layer(grid=codebooks(along, 5, 33, length=1, stages=1, words=4)), tokens)
    agrees(Layer(grid=codebooks(along, 9, 33, length=4, stages=3, words=16)), tokens)


def test_rotated_inputs_are_as_long_as_the_padded_rows():
    signs = Rotation(input_signs=np.ones(64, np.float32), output_signs=np.ones(9, np.float32))
    assert Worded(Layer(grid=lattice(2, 9, 60), rotation=signs), CPU, "words").columns == 64


def test_what_is_no_power_of_two_is_left_to_others():
    for grid in (codebooks("inputs", 4, 24, length=3), codebooks("inputs", 4, 24, words=5)):
        assert not cuda.KERNELS[1].fits(Layer(grid=grid), CPU, torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 2, 5, 16, 17])
@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (17, 264), (130, 72)])
@pytest.mark.parametrize(
    ("length", "stages", "words"), [(8, 1, 65536), (8, 2, 256), (8, 4, 256), (2, 1, 16), (16, 2, 64)]
)
@pytest.mark.parametrize("along", ["inputs", "outputs"])
def test_shapes_and_tokens(along, length, stages, words, rows, columns, tokens):
    agrees(Layer(grid=codebooks(along, rows, columns, length, stages, words)), tokens)
