"""dynamic and static: weights and activations in integers."""

import mlx.core as mx
import numpy as np
import pytest

from pytest_quantbench.engines.mlx import layers
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.dynamic import Dynamic
from pytest_quantbench.quantizers.static import RANGES, Static


def weight(shape=(16, 96), seed=0):
    return (0.02 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def statistics(inputs):
    return Statistics(
        hessian=inputs.T @ inputs / len(inputs), tokens=len(inputs), sample=inputs, peaks=inputs[:1].copy()
    )


def seen(tokens=400, width=96, seed=1):
    inputs = np.random.default_rng(seed).standard_normal((tokens, width)).astype(np.float32)
    inputs[0, 0] = 40.0
    return inputs


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(16, 96), (3, 172), (1, 1), (5, 7)])
def test_rows_agree_with_a_slow_reference_and_store_what_they_should(bits, shape):
    original = weight(shape)
    arrays = Dynamic(bits=bits).encode(original, None, 0)
    decoded = np.array(Dynamic(bits=bits).decode(arrays))
    top = 2 ** (bits - 1) - 1
    for row, found in zip(original, decoded, strict=True):
        scale = max(abs(value) for value in row) / top
        for value, got in zip(row, found, strict=True):
            assert got == pytest.approx(round(value / scale) * scale, rel=1e-5)
    padded = -(-shape[1] // 8) * 8
    assert sum(array.nbytes for array in arrays.values()) == shape[0] * (padded * bits // 8 + 4) + 4


@pytest.mark.parametrize("bits", [4, 8])
def test_every_token_has_its_own_grid(bits):
    rule = Dynamic(bits=bits).layer({}).input_rule
    inputs = seen()
    got = rule.rounded(inputs)
    top = 2 ** (bits - 1) - 1
    for row, found in zip(inputs[:5], got[:5], strict=True):
        scale = np.abs(row).max() / top
        np.testing.assert_allclose(found, np.rint(row / scale) * scale, rtol=1e-4, atol=1e-6)
        assert len(np.unique(np.rint(found / scale))) <= 2 * top + 1
    np.testing.assert_array_equal(rule.rounded(np.zeros((2, 4), np.float32)), 0)


def test_more_bits_mean_a_smaller_error():
    inputs = seen()[1:]
    errors = [np.abs(Dynamic(bits=bits).layer({}).input_rule.rounded(inputs) - inputs).mean() for bits in (4, 8)]
    assert errors[1] < errors[0] / 10


@pytest.mark.parametrize("rule", RANGES)
@pytest.mark.parametrize("bits", [4, 8])
def test_a_static_grid_has_its_levels_and_holds_zero(rule, bits):
    quantizer = Static(bits=bits, range=rule)
    arrays = quantizer.encode(weight(), statistics(seen()), 0)
    got = quantizer.layer(arrays).input_rule.rounded(seen())
    assert len(np.unique(got)) <= 2**bits
    assert 0 in quantizer.layer(arrays).input_rule.rounded(np.zeros((1, 96), np.float32))


def test_the_rules_differ_as_they_should():
    """An outlier of 40 stays with minmax and is cut by the others; mse has the smallest error of the three."""
    error, top = {}, {}
    for rule in RANGES:
        quantizer = Static(bits=4, range=rule)
        arrays = quantizer.encode(weight(), statistics(seen()), 0)
        got = quantizer.layer(arrays).input_rule.rounded(seen())
        error[rule], top[rule] = np.square(got - seen()).sum(), got.max()
    assert top["minmax"] == pytest.approx(40, rel=0.1)
    assert top["percentile"] < 10
    assert error["mse"] <= min(error.values()) * 1.001


def test_static_uses_what_was_observed():
    narrow, wide = (statistics(scale * seen()[1:]) for scale in (1, 10))
    quantizer = Static(bits=8)
    steps = [np.array(quantizer.encode(weight(), one, 0)["input_range"])[0] for one in (narrow, wide)]
    assert steps[1] == pytest.approx(10 * steps[0], rel=1e-3)


def test_static_without_calibration_says_what_to_do():
    with pytest.raises(QuantbenchError, match="static needs calibration: give a text with --calibration FILE"):
        Static(bits=8).encode(weight(), None, 0)


@pytest.mark.parametrize(("make", "said"), [(Dynamic, "bits = 3"), (Static, "bits = 3")])
def test_other_widths_are_refused(make, said):
    with pytest.raises(QuantbenchError, match=said):
        make(bits=3)


def test_an_unknown_range_lists_the_choices():
    with pytest.raises(QuantbenchError, match=r"range = 'max'; choose from .*minmax"):
        Static(bits=8, range="max")


@pytest.mark.parametrize("quantizer", [Dynamic(bits=4), Dynamic(bits=8), Static(bits=4), Static(bits=8)], ids=repr)
def test_mlx_rounds_inputs_as_the_rule_says(quantizer):
    """Up to the last bit of a scale, which moves a value by as much, or one that lies halfway by a step."""
    arrays = quantizer.encode(weight(), statistics(seen()), 0)
    rule = quantizer.layer(arrays).input_rule
    expected = rule.rounded(seen())
    found = np.array(layers.rounding(rule)(mx.array(seen())))
    assert np.mean(np.isclose(found, expected, rtol=1e-6, atol=0)) > 0.999
