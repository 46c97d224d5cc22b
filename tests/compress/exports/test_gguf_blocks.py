import gguf
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.compress.exports.gguf_blocks import HALVED, MOVED, ROUNDED, encoded, plain
from pytest_quantbench.quantizers.encoding import Encoding
from pytest_quantbench.quantizers.hqq import Hqq
from pytest_quantbench.quantizers.int8 import Int8
from pytest_quantbench.quantizers.kquant import Kquant
from pytest_quantbench.quantizers.microscaling import Mxfp4, Mxfp8
from pytest_quantbench.quantizers.nibble import Nibble
from pytest_quantbench.quantizers.rtn import Rtn


def matrix(rows=6, columns=256, seed=0, size=0.05):
    return (size * np.random.default_rng(seed).standard_normal((rows, columns))).astype(np.float16)


def blocks(quantizer, weight, **beside):
    encoding = Encoding(
        codec=quantizer, arrays=dict(quantizer.encode(weight, None, 0)) | beside, shape=tuple(weight.shape)
    )
    return encoded(encoding, encoding.dense().astype(np.float32)), encoding.dense()


KINDS = {
    "Q2_K": Kquant(bits=2),
    "Q3_K": Kquant(bits=3),
    "Q4_K": Kquant(bits=4),
    "Q5_K": Kquant(bits=5),
    "Q6_K": Kquant(bits=6),
    "Q4_0": Nibble(bits=4),
    "Q4_1": Rtn(bits=4),
    "Q5_1": Hqq(bits=5, group_size=32),
    "Q8_0": Int8(bits=8),
    "MXFP4": Mxfp4(bits=4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_holds_its_method_to_the_last_bit_as_the_gguf_package_reads_it(kind):
    rows, dense = blocks(KINDS[kind], matrix())
    assert rows.kind == kind
    found = gguf.quants.dequantize(rows.content, gguf.GGMLQuantizationType[kind])
    assert np.array_equal(found, dense)
    assert np.array_equal(rows.decoded(), dense)


@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.sampled_from([2, 3, 4, 5]),
    group=st.sampled_from([32, 64, 128]),
    rows=st.integers(1, 5),
)
def test_affine_grids_of_two_to_five_bits_are_held(seed, bits, group, rows):
    found, dense = blocks(Rtn(bits=bits, group_size=group), matrix(rows, 128, seed))
    assert found.kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1")
    assert np.array_equal(found.decoded(), dense)


def test_scales_that_float16_rounds_are_said_to_be():
    weight = matrix().astype(np.float32) * np.float32(1e-4)
    weight = weight.astype(ml_dtypes.bfloat16)
    rows, dense = blocks(Rtn(bits=4), weight)
    assert (rows.kind, rows.change) == ("Q4_1", HALVED)
    assert not np.array_equal(rows.decoded(), dense)
    assert np.abs(rows.decoded() - dense).max() < 0.05 * np.abs(dense).max()


def test_scales_beyond_float16_take_another_type():
    weight = (matrix().astype(np.float32) * np.float32(2e7)).astype(ml_dtypes.bfloat16)
    rows, _ = blocks(Rtn(bits=4), weight)
    assert rows.change == ROUNDED


def test_single_weights_beside_the_grid_are_on_it():
    places = np.array([[2, 7]], np.int32)
    rows, dense = blocks(Nibble(bits=4), matrix(), super_places=places, super_values=np.array([3.0], np.float16))
    assert (rows.kind, rows.change) == ("Q4_0", MOVED)
    differing = np.argwhere(rows.decoded() != dense)
    assert differing.tolist() == [[2, 7]]


@pytest.mark.parametrize(
    ("quantizer", "columns"), [(Kquant(bits=4), 96), (Kquant(bits=6), 64), (Mxfp8(bits=8), 256), (Rtn(bits=8), 64)]
)
def test_what_no_type_holds_is_rounded_to_eight_bits(quantizer, columns):
    rows, dense = blocks(quantizer, matrix(columns=columns))
    assert (rows.kind, rows.change) == ("Q8_0", ROUNDED)
    assert 0 < np.abs(rows.decoded() - dense).max() <= np.abs(dense).max() / 127


def test_what_no_float16_scale_reaches_is_in_whole_numbers():
    weight = (matrix().astype(np.float32) * np.float32(1e10)).astype(ml_dtypes.bfloat16)
    rows, dense = blocks(Rtn(bits=4), weight)
    assert rows.kind == "F32"
    assert np.array_equal(rows.decoded(), dense)


def test_rows_that_no_block_divides_are_whole_numbers():
    rows, dense = blocks(Kquant(bits=4), matrix(columns=80))
    assert rows.kind == "F32"
    assert np.array_equal(rows.decoded(), dense)


@pytest.mark.parametrize(("dtype", "kind"), [(ml_dtypes.bfloat16, "BF16"), (np.float16, "F16"), (np.float32, "F32")])
def test_what_was_left_alone_keeps_its_type_as_a_matrix_and_is_f32_as_a_vector(dtype, kind):
    weight = matrix(2, 32).astype(dtype)
    assert plain(weight).kind == kind
    assert np.array_equal(plain(weight).decoded(), weight.astype(np.float32))
    assert plain(weight[0]).kind == "F32"
    assert np.array_equal(plain(weight[0]).decoded(), weight[0].astype(np.float32))
