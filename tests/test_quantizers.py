"""Conformance of every registered quantizer, then the methods one by one against slow references."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench import affine, quantizers
from pytest_quantbench.affine import BITS, GROUPS
from pytest_quantbench.catalog import LEVELS
from pytest_quantbench.errors import QuantbenchError, UnknownNameError
from pytest_quantbench.measures.weights import snr_db
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.recipes import Part, recipe

SHAPES = [(64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33)]
EVERY = [
    quantizers.make(recipe(f"{level}-{name}" if name != "identity" else "bf16", [name]).inner)
    for name in quantizers.names()
    for level in (("bf16",) if name == "identity" else ("int8", "int4", "int3", "int2"))
]


def matrix(shape, seed=0, dtype=mx.bfloat16):
    return mx.array(0.02 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def dense(quantizer, weight):
    return np.array(quantizer.decode(quantizer.encode(weight, None, 0)).astype(mx.float32))


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
@pytest.mark.parametrize("shape", SHAPES)
def test_decode_gives_the_shape_back_and_is_deterministic(quantizer, shape):
    arrays = quantizer.encode(matrix(shape), None, 0)
    first, second = quantizer.decode(dict(arrays)), quantizer.decode(dict(arrays))
    assert first.shape == shape
    assert mx.array_equal(first, second)


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_native_layer_agrees_with_decode(quantizer, shape):
    arrays = quantizer.encode(matrix(shape), None, 0)
    layer = quantizer.linear(dict(arrays))
    if layer is None:
        pytest.skip("no native layer: T1 runs decoded and the record says so")
    layer.set_dtype(mx.float32)
    x = mx.array(np.random.default_rng(1).standard_normal((4, shape[1])), mx.float32)
    expected = np.array(x @ quantizer.decode(arrays).astype(mx.float32).T)
    assert np.abs(np.array(layer(x)) - expected).max() <= 1e-4 * np.abs(expected).max() + 1e-7


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
@pytest.mark.parametrize("value", [0.0, 0.75, -3.0])
def test_constant_matrices_survive(quantizer, value):
    weight = mx.full((8, 64), value, mx.bfloat16)
    np.testing.assert_allclose(dense(quantizer, weight), value, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_scaling_the_weight_scales_the_result(quantizer):
    weight = matrix((16, 128))
    np.testing.assert_allclose(dense(quantizer, 4 * weight), 4 * dense(quantizer, weight), rtol=1e-6)


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_the_arrays_survive_a_file(quantizer, tmp_path):
    arrays = quantizer.encode(matrix((16, 172)), None, 0)
    mx.save_safetensors(str(tmp_path / "a.safetensors"), arrays)
    loaded = mx.load(str(tmp_path / "a.safetensors"))
    assert mx.array_equal(quantizer.decode(loaded), quantizer.decode(arrays))


def test_identity_is_exact():
    weight = matrix((8, 100))
    assert mx.array_equal(quantizers.make(Part(quantizer="identity")).decode({"weight": weight}), weight)


def slow_rtn(weight, bits, group):
    """Group by group: the best of 2^bits evenly spaced levels that reach from the smallest to the largest weight."""
    out = np.empty_like(weight)
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], group):
            part = weight[row, start : start + group]
            step = (part.max() - part.min()) / (2**bits - 1)
            out[row, start : start + group] = np.round((part - part.min()) / step) * step + part.min()
    return out


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", GROUPS)
def test_rtn_is_as_good_as_a_slow_reference_and_stores_what_it_should(bits, group):
    """MLX moves the grid so that zero is a level and rounds scales to 16 bits: within 1 dB of the plain grid."""
    weight = matrix((64, 256))
    original = np.array(weight.astype(mx.float32))
    quantizer = Rtn(bits=bits, group_size=group)
    arrays = quantizer.encode(weight, None, 0)
    ours = snr_db(original.ravel(), (dense(quantizer, weight) - original).ravel())
    slow = snr_db(original.ravel(), (slow_rtn(original, bits, group) - original).ravel())
    assert ours > slow - (4.5 if bits == 8 else 1.2)  # 16-bit scales cost about 4 dB at 8 bits
    stored_bits = 8 * sum(array.nbytes for array in arrays.values()) / weight.size
    assert stored_bits == bits + 32 / group


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(BITS), st.sampled_from(GROUPS), st.integers(1, 9), st.integers(1, 300), st.integers(0, 2**31))
def test_rtn_errors_stay_below_a_step(bits, group, rows, columns, seed):
    """No weight is further from its decoded value than a step of its group, whatever was padded."""
    weight = matrix((rows, columns), seed)
    original = np.array(weight.astype(mx.float32))
    decoded = dense(Rtn(bits=bits, group_size=group), weight)
    used, _ = affine.fit(columns, group, bits)
    for start in range(0, columns, used):
        part = original[:, start : start + used]
        span = np.maximum(part.max(1), 0) - np.minimum(part.min(1), 0)
        error = np.abs(decoded[:, start : start + used] - part).max(1)
        assert (error <= 1.02 * span / (2**bits - 1) + span * 0.02).all()


def test_rtn_error_falls_with_bits_and_smaller_groups():
    weight = matrix((64, 256))
    original = np.array(weight.astype(mx.float32))
    errors = [np.abs(dense(Rtn(bits=bits), weight) - original).mean() for bits in BITS]
    assert errors == sorted(errors, reverse=True)
    by_group = [np.abs(dense(Rtn(bits=3, group_size=group), weight) - original).mean() for group in GROUPS]
    assert by_group == sorted(by_group)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_rtn_uses_all_its_codes(bits):
    arrays = Rtn(bits=bits).encode(matrix((64, 256)), None, 0)
    ones = {"scales": mx.ones_like(arrays["scales"]), "biases": mx.zeros_like(arrays["biases"])}
    codes = np.array(Rtn(bits=bits).decode(arrays | ones))
    assert set(np.unique(codes)) == set(range(2**bits))


@pytest.mark.parametrize(
    ("columns", "group", "fit", "note"),
    [
        (256, 64, (64, 256), ""),
        (96, 64, (32, 96), "group 32 instead of 64"),
        (64, 128, (64, 64), "group 64 instead of 128"),
        (172, 64, (64, 192), "rows padded from 172 to 192"),
        (172, 128, (64, 192), "rows padded from 172 to 192, group 64 instead of 128"),
        (1, 64, (32, 32), "rows padded from 1 to 32, group 32 instead of 64"),
    ],
)
def test_rtn_says_what_it_did_where_the_group_does_not_fit(columns, group, fit, note):
    quantizer = Rtn(bits=4, group_size=group)
    assert affine.fit(columns, group, 4) == fit
    assert quantizer.note((8, columns)) == note


def test_float32_weights_get_16_bit_scales():
    assert Rtn(bits=4).encode(matrix((4, 64), dtype=mx.float32), None, 0)["scales"].dtype == mx.bfloat16


def test_mlx_opens_what_is_not_padded():
    assert Rtn(bits=3).mlx_parameters(Rtn(bits=3).encode(matrix((4, 128)), None, 0)) == {"group_size": 64, "bits": 3}
    assert Rtn(bits=3).mlx_parameters(Rtn(bits=3).encode(matrix((4, 172)), None, 0)) is None


@pytest.mark.parametrize(("field", "value"), [("bits", 7), ("bits", 1), ("group_size", 48)])
def test_rtn_refuses_what_mlx_has_no_kernel_for(field, value):
    with pytest.raises(QuantbenchError, match=f"{field} = {value}"):
        Rtn(**({"bits": 4} | {field: value}))


def test_unknown_quantizers_and_parameters_list_the_choices():
    with pytest.raises(UnknownNameError, match="identity, rtn"):
        quantizers.get("gqtp")
    with pytest.raises(UnknownNameError, match="bits, group_size"):
        quantizers.make(Part(quantizer="rtn", parameters={"groupsize": 64}))
    with pytest.raises(QuantbenchError, match="cannot be imported"):
        quantizers.get("no.such.module:Quantizer")


def test_a_quantizer_may_be_named_by_its_class():
    assert quantizers.get("pytest_quantbench.quantizers.rtn:Rtn") is Rtn


def test_every_level_has_a_default_that_exists():
    assert {level.quantizer for level in LEVELS.values()} <= set(quantizers.names())
