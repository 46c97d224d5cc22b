"""Matrices of codebooks by compiled kernels, against what their words add up to in numpy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llvmlite")

from engines.torch.kernels.cpu import layers_of_noise as noise
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.engines.torch.kernels import product_for
from pytest_quantbench.engines.torch.kernels.cpu.codebooks import fits, product
from pytest_quantbench.engines.torch.kernels.cpu.machine_code import PORTABLE, instructions
from pytest_quantbench.quantizers.layer import Codebooks, Layer, Rotation
from pytest_quantbench.quantizers.layer_matrix import matrix
from pytest_quantbench.quantizers.numerics import e8_lattice

CPU = torch.device("cpu")
WIDTHS = [instructions(), PORTABLE]
ids = {"ids": ["this CPU", "portable"]}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def error(layer, tokens, rng, cpu=None):
    return noise.relative_error(product(layer, cpu or instructions()), layer, tokens, rng)


@pytest.mark.parametrize("cpu", WIDTHS, **ids)
@pytest.mark.parametrize(("stages", "words", "length"), [(1, 256, 4), (2, 256, 8), (3, 100, 8), (1, 16, 2), (1, 2, 1)])
def test_words_along_the_inputs(stages, words, length, cpu, rng):
    """Rows that fill no tile, vectors that fill no chunk of tables and more than one."""
    layer = Layer(grid=noise.codebooks(rng, outs=150, ins=1203, stages=stages, words=words, length=length))
    assert error(layer, 2, rng, cpu) < 5e-6


@pytest.mark.parametrize("cpu", WIDTHS, **ids)
@pytest.mark.parametrize(("stages", "words", "length"), [(2, 256, 8), (1, 256, 4), (1, 16, 1), (1, 1000, 16)])
def test_words_along_the_outputs(stages, words, length, cpu, rng):
    grid = noise.codebooks(rng, outs=45, ins=70, stages=stages, words=words, length=length, along="outputs")
    assert error(Layer(grid=grid), 5, rng, cpu) < 5e-6


@pytest.mark.parametrize("cpu", WIDTHS, **ids)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_lattices_words(bits, cpu, rng):
    """65,536 of them, in one stage or two; rotated inputs come as long as the grid's rows are."""
    codes = rng.integers(0, 2 ** (16 if bits != 3 else 8), (1 + (bits > 2), 40, 10)).astype(np.uint16)
    grid = Codebooks(
        codes=codes,
        words=e8_lattice.stages(bits),
        scales=np.ones(1, np.float32),
        along="inputs",
        out_features=40,
        in_features=78,
    )
    assert error(Layer(grid=grid), 1, rng, cpu) < 5e-6
    turned = Layer(grid=grid, rotation=Rotation(input_signs=np.ones(80, np.float32), output_signs=np.ones(40)))
    assert product(turned, cpu)(torch.ones(1, 80)).shape == (1, 40)


def test_matrices_share_a_large_codebook(rng):
    grids = [
        Codebooks(
            codes=rng.integers(0, 2**16, (1, 8, 2)).astype(np.uint16),
            words=e8_lattice.stages(2),
            scales=np.ones(1, np.float32),
            along="inputs",
            out_features=8,
            in_features=16,
        )
        for _ in range(2)
    ]
    one, other = (product(Layer(grid=grid), instructions()) for grid in grids)
    assert one.words.data_ptr() == other.words.data_ptr()
    assert one.words.dtype == torch.float16  # which holds quarters
    assert one.bytes_per_token < 2000  # such a codebook is read once, and not from memory


def test_what_stands_beside_codebooks(rng):
    grid = noise.codebooks(rng, outs=45, ins=70, stages=2, words=256, length=8, along="outputs", row_scales=False)
    layer = Layer(grid=grid, columns=noise.columns(rng, 45, 70, 3))
    assert error(layer, 2, rng) < 5e-6
    grid = noise.codebooks(rng, outs=45, ins=70, stages=2, words=256, length=8)
    layer = Layer(grid=grid, sparse=noise.sparse(rng, 45, 70, 9), low_rank=noise.low_rank(rng, 45, 70, 2))
    assert error(layer, 2, rng) < 5e-6


@pytest.mark.parametrize("outlier", [1.0, 1e4])
def test_one_enormous_input_takes_nothing_from_the_others(outlier, rng):
    """All tables have one unit: what their integers lose is little beside what a large input does to every output."""
    layer = Layer(grid=noise.codebooks(rng, outs=200, ins=512, stages=2, words=256, length=8))
    inputs = rng.standard_normal((1, 512)).astype(np.float32)
    inputs[0, 100] *= outlier
    wanted = inputs.astype(np.float64) @ matrix(layer).astype(np.float64).T
    found = product(layer, instructions())(torch.from_numpy(inputs)).numpy()
    assert np.linalg.norm(found - wanted) < 5e-6 * np.linalg.norm(wanted)


def test_no_input_is_no_output(rng):
    layer = Layer(grid=noise.codebooks(rng, outs=10, ins=64, stages=1, words=256, length=4))
    assert not product(layer, instructions())(torch.zeros(1, 64)).any()


def test_two_threads_do_the_same(rng):
    layer = Layer(grid=noise.codebooks(rng, outs=700, ins=64, stages=1, words=256, length=4))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert error(layer, 1, rng) < 5e-6
    finally:
        torch.set_num_threads(before)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["inputs", "outputs"]), st.integers(0, 2**32))
def test_any_shape(outs, ins, along, seed):
    rng = np.random.default_rng(seed)
    layer = Layer(grid=noise.codebooks(rng, outs=outs, ins=ins, stages=2, words=256, length=8, along=along))
    assert error(layer, 1, rng) < 1e-5


def test_the_table_takes_them(rng):
    layer = Layer(grid=noise.codebooks(rng, outs=16, ins=64, stages=2, words=256, length=8))
    assert product_for(layer, lambda: np.ones((16, 64)), CPU, torch.float32).kernel == "tables, 2 × 256 × 8"
    odd = Layer(grid=noise.codebooks(rng, outs=16, ins=66, stages=2, words=256, length=6))
    assert not fits(odd, CPU, torch.float32)
