"""What a description stands for: known answers for every part, and what each method's `decode` says."""

import numpy as np
import pytest

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import Part
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.layer import (
    Affine,
    Codebooks,
    Columns,
    Layer,
    LowRank,
    Rotation,
    Sparse,
    padding,
)
from pytest_quantbench.quantizers.layer_matrix import beyond_words, grid_matrix, matrix
from pytest_quantbench.quantizers.numerics import e8_lattice, hadamard
from pytest_quantbench.quantizers.numerics.bit_packing import pack

SHAPES = ((64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33), (24, 1040))
SEARCHING = {"aqlm", "awq", "gptq", "kquant", "milo", "quip", "static", "vptq"}  # seconds for all shapes

RUN_DECODED = {"identity", "dynamic", "static", "Kquant(bits=2)", "Kquant(bits=3)"}  # no grid is described


def made(name, bits):
    try:
        return quantizers.make(Part(quantizer=name, parameters={"bits": bits}))
    except QuantbenchError:
        return None


EVERY = [each for name in quantizers.names() for bits in (2, 3, 4, 8) if (each := made(name, bits)) is not None]


def encoded(quantizer, shape, seed=0):
    generator = np.random.default_rng(seed)
    weight = 0.02 * generator.standard_t(4, shape).astype(np.float32)
    inputs = generator.standard_normal((256, shape[1])).astype(np.float32)
    inputs[:, :2] *= 30  # inputs that are worth more bits than others
    given = Statistics(hessian=inputs.T @ inputs / 256, tokens=256, sample=inputs, peaks=inputs[:16])
    return quantizer.encode(weight, None if quantizer.calibration == "none" else given, seed)


def agrees(quantizer, shape):
    """Whether there is a grid at all."""
    arrays = encoded(quantizer, shape)
    layer, decoded = quantizer.layer(arrays), quantizer.decode(arrays)
    if layer is None or layer.grid is None:
        return False
    assert layer.grid.in_features == shape[1]
    np.testing.assert_allclose(matrix(layer), decoded, rtol=0, atol=3e-6 * np.abs(decoded).max() + 1e-30)
    return True


@pytest.mark.parametrize("quantizer", [each for each in EVERY if each.name not in SEARCHING], ids=repr)
def test_it_is_what_decode_gives(quantizer):
    described = {agrees(quantizer, shape) for shape in SHAPES}
    assert described == {quantizer.name not in RUN_DECODED and repr(quantizer) not in RUN_DECODED}


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", [each for each in EVERY if each.name in SEARCHING], ids=repr)
def test_it_is_what_decode_of_searching_methods_gives(quantizer):
    described = {agrees(quantizer, shape) for shape in SHAPES}
    assert described == {quantizer.name not in RUN_DECODED and repr(quantizer) not in RUN_DECODED}


@pytest.mark.parametrize(
    ("name", "bits"), [("aqlm", 2), ("aqlm", 3), ("vptq", 2), ("quip", 2), ("quip", 3), ("quip", 4)]
)
@pytest.mark.parametrize("shape", [(24, 64), (9, 33)])
def test_vectors_of_weights_are_described_as_codebooks(name, bits, shape):
    quantizer = made(name, bits)
    layer = quantizer.layer(encoded(quantizer, shape))
    assert isinstance(layer.grid, Codebooks)
    assert agrees(quantizer, shape)


def test_outliers_of_vptq_are_columns():
    quantizer = quantizers.make(Part(quantizer="vptq", parameters={"bits": 2, "outlier_bits": 0.2, "rounds": 0}))
    arrays = encoded(quantizer, (640, 64))
    layer = quantizer.layer(arrays)
    np.testing.assert_array_equal(layer.columns.places, arrays["outliers"])
    assert {0, 1} <= set(layer.columns.places.tolist())
    np.testing.assert_array_equal(matrix(layer), quantizer.decode(arrays))


def test_quip_has_one_codebook_for_all_matrices():
    quantizer = made("quip", 2)
    first, second = (quantizer.layer(encoded(quantizer, shape)) for shape in ((8, 64), (16, 40)))
    assert first.grid.words is second.grid.words
    assert first.grid.words.shape == (1, 65536, 8)
    assert set(np.abs(first.rotation.input_signs)) == {1}
    with pytest.raises(ValueError, match="read-only"):
        first.grid.words[0, 0, 0] = 1


def test_the_stages_of_the_lattice_add_up():
    generator = np.random.default_rng(0)
    for bits in (2, 3, 4):
        words = e8_lattice.stages(bits)
        codes = [generator.integers(0, 256 if (stage, bits) == (1, 3) else 65536, 50) for stage in range(len(words))]
        total = sum(stage[code] for stage, code in zip(words, codes, strict=True))
        np.testing.assert_allclose(total, e8_lattice.lookup(tuple(codes), bits), rtol=1e-6, atol=1e-7)
    assert not e8_lattice.stages(3)[1, 256:].any()


def books(along, outs=6, ins=7, length=4, stages=2, seed=0):
    generator = np.random.default_rng(seed)
    rows, columns = (outs, -(-ins // length)) if along == "inputs" else (-(-outs // length), ins)
    return Codebooks(
        codes=generator.integers(0, 5, (stages, rows, columns)).astype(np.uint8),
        words=generator.standard_normal((stages, 5, length)).astype(np.float16),
        scales=generator.standard_normal(outs).astype(np.float32),
        along=along,
        out_features=outs,
        in_features=ins,
    )


@pytest.mark.parametrize("along", ["inputs", "outputs"])
def test_codebooks_weight_by_weight(along):
    grid = books(along)
    found = matrix(Layer(grid=grid))
    assert found.shape == (6, 7)
    assert padding(grid) == (1 if along == "inputs" else 0)
    for out in range(6):
        for column in range(7):
            (row, block), place = (
                ((out, column // 4), column % 4) if along == "inputs" else ((out // 4, column), out % 4)
            )
            total = sum(float(grid.words[stage, grid.codes[stage, row, block], place]) for stage in range(2))
            assert found[out, column] == pytest.approx(total * grid.scales[out], abs=1e-6)


def test_a_single_scale_is_of_all_rows():
    grid = books("inputs")
    single = Codebooks(
        codes=grid.codes, words=grid.words, scales=np.array([2.0]), along="inputs", out_features=6, in_features=7
    )
    np.testing.assert_allclose(
        grid_matrix(single)[:, :7] * grid.scales[:, None] / 2, matrix(Layer(grid=grid)), rtol=1e-6
    )


def affine(outs=4, ins=30):
    generator = np.random.default_rng(3)
    codes = generator.integers(0, 16, (outs, 32)).astype(np.uint8)
    scales, biases = (generator.standard_normal((outs, 1)).astype(np.float16) for _ in range(2))
    return codes, Affine(codes=pack(codes, 4).view(np.uint32), scales=scales, biases=biases, bits=4, in_features=ins)


def test_every_part_beside_the_grid():
    """Scaled outputs of the grid, then columns, single weights and a product beside it, then scaled inputs."""
    codes, grid = affine()
    expected = (codes * grid.scales.astype(np.float32) + grid.biases.astype(np.float32))[:, :30] * np.float32(3)
    expected[:, [2, 5]] = [[1, 2], [3, 4], [5, 6], [7, 8]]
    expected[1, 4] += 9
    expected[1, 5] += 10
    left, right = np.ones((1, 4), np.float32), np.arange(30, dtype=np.float32)[None]
    expected = (expected + left.T @ right) * np.linspace(1, 2, 30, dtype=np.float32)
    values = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float16)
    layer = Layer(
        grid=grid,
        scale=np.array([3], np.float32),
        columns=Columns(places=np.array([2, 5], np.int32), values=values),
        sparse=Sparse(places=np.array([[1, 4], [1, 5]], np.int32), values=np.array([9, 10], np.float32)),
        low_rank=LowRank(left=left, right=right),
        input_scales=np.linspace(1, 2, 30, dtype=np.float32),
    )
    np.testing.assert_allclose(matrix(layer), expected, rtol=1e-6)


def test_a_rotation_is_undone():
    """W x is what the rotated matrix makes of rotated inputs, rotated back."""
    _, grid = affine(ins=30)
    generator = np.random.default_rng(4)
    signs = [generator.choice(np.array([-1, 1], np.float32), length) for length in (32, 4)]
    layer = Layer(grid=grid, rotation=Rotation(input_signs=signs[0], output_signs=signs[1]))
    inputs = generator.standard_normal((30, 5)).astype(np.float32)
    turned = hadamard.transform(np.pad(inputs, ((0, 2), (0, 0))) * signs[0][:, None])
    expected = signs[1][:, None] * hadamard.transform(grid_matrix(grid) @ turned, inverse=True)
    assert matrix(layer).shape == (4, 30)
    np.testing.assert_allclose(matrix(layer) @ inputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("along", ["inputs", "outputs"])
def test_what_dense_columns_have_more_than_words(along):
    grid, places = books(along), np.array([1, 6], np.int32)
    columns = Columns(places=places, values=np.random.default_rng(5).standard_normal((6, 2)).astype(np.float32))
    sums = grid_matrix(grid)[:, :7].copy()
    sums[:, places] += beyond_words(grid, columns)
    np.testing.assert_allclose(sums, matrix(Layer(grid=grid, columns=columns)), atol=1e-6)


@pytest.mark.parametrize(("bits", "bias", "centred"), [(4, -8, True), (4, -7, False), (3, -4, True), (3, 0, False)])
def test_biases_may_put_zero_in_the_middle(bits, bias, centred):
    scales = np.array([[0.1, 0.3]], np.float16)
    grid = Affine(codes=np.zeros((1, 8), np.uint32), scales=scales, biases=bias * scales, bits=bits, in_features=64)
    assert grid.is_centred == centred
    assert grid.middle == 2**bits // 2


def test_single_weights_row_after_row():
    """Those of one row stay in their order."""
    places = np.array([[3, 1], [0, 5], [3, 0], [1, 2]], np.int32)
    at, values = Sparse(places=places, values=np.arange(4, dtype=np.float32)).by_row()
    assert at.tolist() == [[0, 5], [1, 2], [3, 1], [3, 0]]
    assert values.tolist() == [1, 3, 0, 2]
