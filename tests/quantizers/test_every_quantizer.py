"""Conformance of every registered quantizer, then the methods one by one against slow references."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench import quantizers
from pytest_quantbench.catalog.recipes import LEVELS, Part
from pytest_quantbench.errors import ConformanceError, QuantbenchError, UnknownNameError
from pytest_quantbench.measures.weights import snr_db
from pytest_quantbench.quantizers.numerics import affine
from pytest_quantbench.quantizers.numerics.affine import BITS, GROUPS
from pytest_quantbench.quantizers.numerics.error_feedback import output_error
from pytest_quantbench.quantizers.rtn import Rtn
from pytest_quantbench.workbench.conformance import CHECKS, failures
from pytest_quantbench.workbench.distortion import error_falls_with_bits, loss
from pytest_quantbench.workbench.matrices import correlated_inputs
from pytest_quantbench.workbench.side_by_side import methods
from pytest_quantbench.workbench.trials import MAIN

EVERY = [
    quantizer
    for name in quantizers.names()
    for quantizer in (
        [quantizers.make(Part(quantizer=name))]
        if name == "identity"
        else [made for _, width, made in methods([name]) if width in (8, 4, 3, 2) or name == "kquant"]
    )
]
# One scale for a whole row is fewer bits than any group, and floating-point levels suit heavier tails than these.
WORSE_ON_GAUSSIANS = {"int8", "dynamic", "static", "mxfp4", "mxfp8", "nvfp4"}
CALIBRATED = correlated_inputs(256)
SEARCHING = {"aqlm", "awq", "gptq", "kquant", "milo", "quip", "static", "vptq"}  # seconds to minutes for a check


def paced(quantizer):
    """A parameter of tests: of slow ones where the method takes long."""
    name = quantizer if isinstance(quantizer, str) else quantizer.name
    return pytest.param(quantizer, marks=[pytest.mark.slow] if name in SEARCHING else [])


def matrix(shape, seed=0, dtype=ml_dtypes.bfloat16):
    return (0.02 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def dense(quantizer, weight):
    return quantizer.decode(quantizer.encode(weight, None, 0)).astype(np.float32)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("quantizer", [paced(each) for each in EVERY], ids=repr)
def test_every_quantizer_conforms(quantizer, check):
    check(quantizer)


@pytest.mark.parametrize("name", [paced(name) for name in quantizers.names() if name != "identity"])
def test_the_error_falls_with_bits(name):
    error_falls_with_bits([quantizer for _, _, quantizer in methods([name])])


@pytest.mark.parametrize("quantizer", [each for each in EVERY if each.name != "identity"], ids=repr)
def test_nothing_is_worse_than_rounding_with_as_many_bits(quantizer):
    """On the method's own objective, with the group of rounding chosen so that it stores no less."""
    if quantizer.name in WORSE_ON_GAUSSIANS:
        pytest.skip("one scale for whole rows, or levels that suit heavier tails")
    lost, stored = loss(quantizer)
    group = next(group for group in (128, 64, 32) if quantizer.bits + 32 / group >= stored or group == 32)
    rounded = dense(Rtn(bits=quantizer.bits, group_size=group), matrix(MAIN))
    hessian = np.eye(256) if quantizer.calibration == "none" else CALIBRATED.hessian
    assert lost <= output_error(rounded - matrix(MAIN).astype(np.float32), hessian)


class OneBit(Rtn):
    """Says that it has `bits`, and keeps the signs."""

    def encode(self, weight, statistics, seed):
        size = np.abs(weight.astype(np.float32)).mean()
        return Rtn.encode(self, np.where(weight > 0, size, -size), statistics, seed)


def test_conformance_finds_a_method_that_throws_bits_away():
    found = [name for name, problem in failures(OneBit(bits=8)) if problem]
    assert "no_worse_than_rounding_with_as_many_bits" in found
    with pytest.raises(ConformanceError, match="loses no less"):
        error_falls_with_bits([OneBit(bits=4), OneBit(bits=4)])


def test_identity_is_exact():
    weight = matrix((8, 100))
    assert np.array_equal(quantizers.make(Part(quantizer="identity")).decode({"weight": weight}), weight)


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
    original = weight.astype(np.float32)
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
    original = weight.astype(np.float32)
    decoded = dense(Rtn(bits=bits, group_size=group), weight)
    used, _ = affine.fit(columns, group, bits)
    for start in range(0, columns, used):
        part = original[:, start : start + used]
        span = np.maximum(part.max(1), 0) - np.minimum(part.min(1), 0)
        error = np.abs(decoded[:, start : start + used] - part).max(1)
        assert (error <= 1.02 * span / (2**bits - 1) + span * 0.02).all()


def test_rtn_error_falls_with_bits_and_smaller_groups():
    weight = matrix((64, 256))
    original = weight.astype(np.float32)
    errors = [np.abs(dense(Rtn(bits=bits), weight) - original).mean() for bits in BITS]
    assert errors == sorted(errors, reverse=True)
    by_group = [np.abs(dense(Rtn(bits=3, group_size=group), weight) - original).mean() for group in GROUPS]
    assert by_group == sorted(by_group)


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
    assert quantizer.note((8, columns), {}) == note


def test_float32_weights_get_16_bit_scales():
    assert Rtn(bits=4).encode(matrix((4, 64), dtype=np.float32), None, 0)["scales"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(("field", "value"), [("bits", 7), ("bits", 1), ("group_size", 48)])
def test_rtn_refuses_what_mlx_has_no_kernel_for(field, value):
    with pytest.raises(QuantbenchError, match=f"{field} = {value}"):
        Rtn(**({"bits": 4} | {field: value}))


def test_unknown_quantizers_and_parameters_list_the_choices():
    with pytest.raises(UnknownNameError, match="identity, int8"):
        quantizers.get("gqtp")
    with pytest.raises(UnknownNameError, match="bits, group_size"):
        quantizers.make(Part(quantizer="rtn", parameters={"groupsize": 64}))
    with pytest.raises(QuantbenchError, match="cannot be imported"):
        quantizers.get("no.such.module:Quantizer")


def test_a_quantizer_may_be_named_by_its_class():
    assert quantizers.get("pytest_quantbench.quantizers.rtn:Rtn") is Rtn


def test_every_level_has_a_default_that_exists():
    assert {level.quantizer for level in LEVELS.values()} <= set(quantizers.names())
