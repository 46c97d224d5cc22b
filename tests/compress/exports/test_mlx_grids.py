import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.compress.exports.mlx_grids import held, why_not
from pytest_quantbench.quantizers.layer import Affine, Columns, Layer, LowRank, PerToken, Rotation, Sparse
from pytest_quantbench.quantizers.numerics import affine
from pytest_quantbench.quantizers.numerics.bit_packing import pack, unpack


def grid(bits=4, rows=3, columns=64, group=32, in_features=None, seed=0):
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 2**bits, (rows, columns)).astype(np.uint8)
    scales, biases = (generator.standard_normal((rows, columns // group)).astype(np.float32) for _ in range(2))
    packed = pack(codes, bits).view(np.uint32)
    return Affine(codes=packed, scales=scales, biases=biases, bits=bits, in_features=in_features or columns)


def decoded(found):
    arrays = {"weight": found.codes, "scales": found.scales, "biases": found.biases}
    return affine.decode(arrays, found.bits)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"grid": None}, "is no grid of codes and scales"),
        ({"grid": None, "input_rule": PerToken(bits=8)}, "rounds its inputs"),
        ({"input_scales": np.ones(64)}, "multiplies its inputs by scales"),
        ({"scale": np.ones(1)}, "multiplies its outputs by a scale"),
        ({"low_rank": LowRank(left=np.ones((1, 3)), right=np.ones((1, 64)))}, "adds a low-rank product"),
        ({"columns": Columns(places=np.arange(1), values=np.ones((3, 1)))}, "keeps some columns dense"),
        ({"rotation": Rotation(input_signs=np.ones(64), output_signs=np.ones(3))}, "rotates its inputs"),
        ({"grid": grid(columns=96, group=96)}, "has groups of 96, not of 16, 32, 64, 128"),
    ],
)
def test_what_has_no_place_in_mlx_is_named(parts, reason):
    assert why_not(Layer(**{"grid": grid()} | parts)) == reason


def test_a_layer_that_is_not_described_has_no_grid():
    assert why_not(None) == "is no grid of codes and scales"
    assert why_not(Layer(grid=grid())) is None


def test_a_grid_alone_is_held_as_it_is():
    alone = grid()
    assert held(Layer(grid=alone)).grid is alone


@pytest.mark.parametrize("bits", [3, 4, 5, 8])
def test_padding_is_cut_off_where_a_group_begins_there(bits):
    padded = grid(bits=bits, columns=128, in_features=96)
    found = held(Layer(grid=padded)).grid
    assert decoded(found).shape == (3, 96)
    assert np.array_equal(decoded(found), decoded(padded)[:, :96])


def test_padding_within_a_group_cannot_be_cut_off():
    assert held(Layer(grid=grid(columns=128, in_features=80))) is None


@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([2, 3, 4, 8]))
def test_single_weights_take_the_nearest_level_and_no_other_weight_changes(seed, bits):
    plain, generator = grid(bits=bits, seed=seed), np.random.default_rng(seed)
    places = np.array([[0, 5], [0, 6], [2, 63]], np.int32)
    values = (3 * generator.standard_normal(3)).astype(np.float16)
    found = held(Layer(grid=plain, sparse=Sparse(places=places, values=values)))
    assert found.moved == 3
    wanted = decoded(plain)
    for (row, column), value in zip(places, values, strict=True):
        scale, bias = plain.scales[row, column // 32], plain.biases[row, column // 32]
        levels = np.arange(2**bits) * scale + bias
        sum_ = wanted[row, column] + np.float32(value)
        assert abs(decoded(found.grid)[row, column] - sum_) <= np.abs(levels - sum_).min() + 1e-6 * np.abs(levels).max()
        wanted[row, column] = decoded(found.grid)[row, column]
    assert np.array_equal(decoded(found.grid), wanted)


def test_a_group_of_one_level_keeps_it():
    flat = grid()
    flat.scales[:] = 0
    sparse = Sparse(places=np.array([[1, 2]], np.int32), values=np.array([4.0], np.float32))
    found = held(Layer(grid=flat, sparse=sparse)).grid
    assert np.array_equal(unpack(found.codes.view(np.uint8), 4), unpack(flat.codes.view(np.uint8), 4))
