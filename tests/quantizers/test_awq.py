"""AWQ against a slow reading of its paper, and the properties that its scales must have."""

import numpy as np
import pytest

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.awq import Awq
from pytest_quantbench.quantizers.numerics import affine

SHAPES = [(64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33)]


def gaussian(shape, seed=0):
    return (0.02 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def inputs(size, seed=0, loud=3, tokens=1024):
    """Correlated inputs, a few of them much larger than the others."""
    rng = np.random.default_rng(seed)
    gains = np.exp(0.5 * rng.standard_normal(size))
    gains[rng.permutation(size)[:loud]] *= 15
    mixed = rng.standard_normal((tokens, size)) @ (np.eye(size) + 0.3 * rng.standard_normal((size, size)) / size**0.5)
    return (mixed * gains).astype(np.float32)


def seen(x):
    return Statistics(hessian=x.T @ x / np.float32(len(x)), tokens=len(x), sample=x[:64], peaks=x[:16])


def encoded(quantizer, weight, statistics):
    arrays = quantizer.encode(weight, statistics, 0)
    return arrays, np.array(quantizer.decode(arrays))


def output_error(weight, decoded, x):
    """Mean squared error of the outputs, computed from the inputs themselves."""
    return float(np.square(x.astype(np.float64) @ (weight - decoded).T.astype(np.float64)).mean())


def slow_awq(weight, x, bits, group):
    """The paper: for every α scale, round each group between its smallest and largest weight, keep the best α."""
    size, best = np.sqrt(np.square(x.astype(np.float64)).mean(0)), (np.inf, None)
    for alpha in np.arange(20) / 20:
        s = size**alpha
        s /= np.sqrt(s.max() * s.min())
        decoded = np.empty(weight.shape)
        for row in range(weight.shape[0]):
            for begin in range(0, weight.shape[1], group):
                part = weight[row, begin : begin + group] * s[begin : begin + group]
                step = (part.max() - part.min()) / (2**bits - 1)
                codes = np.rint((part - part.min()) / step)
                decoded[row, begin : begin + group] = codes * step + part.min()
        decoded /= s
        best = min(best, (output_error(weight, decoded, x), alpha), key=lambda each: each[0])
    return best


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_not_worse_than_the_paper_read_slowly(bits, seed):
    weight, x = gaussian((16, 256), seed), inputs(256, seed)
    error = output_error(weight, encoded(Awq(bits=bits), weight, seen(x))[1], x)
    slow, alpha = slow_awq(weight, x, bits, 64)
    assert alpha > 0  # a case in which scaling is worth something
    assert error < 0.85 * slow  # clipping is worth more than 0.7 dB


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_are_the_nearest_levels_of_the_scaled_weight(bits):
    weight = gaussian((32, 256))
    arrays, decoded = encoded(Awq(bits=bits), weight, seen(inputs(256)))
    scales, biases = (arrays[name].astype(np.float32).repeat(64, 1) for name in ("scales", "biases"))
    input_scales = arrays["input_scales"].astype(np.float32).astype(np.float64)
    exact = (weight / input_scales - biases) / scales
    off_grid = np.abs(exact - np.rint(exact))
    codes = affine.codes_of(arrays, bits)
    clear = off_grid < 0.499
    np.testing.assert_array_equal(codes[clear], np.clip(np.rint(exact), 0, 2**bits - 1)[clear])
    np.testing.assert_allclose(decoded, (codes * scales + biases) * input_scales, atol=1e-6)


def test_it_finds_the_power_of_the_inputs_that_does_best():
    weight, x = gaussian((32, 256)), inputs(256)
    chosen = encoded(Awq(bits=4), weight, seen(x))[0]["input_scales"].astype(np.float32)
    sizes = np.sqrt(np.square(x).mean(0))
    alpha = -np.polyfit(np.log(sizes), np.log(chosen), 1)[0]
    assert alpha * 20 == pytest.approx(round(alpha * 20), abs=0.02)  # a power from the list
    assert alpha > 0
    plain = output_error(weight, encoded(Awq(bits=4, candidates=1), weight, seen(x))[1], x)
    assert output_error(weight, encoded(Awq(bits=4), weight, seen(x))[1], x) < plain


def test_with_inputs_of_one_size_nothing_is_scaled():
    identity = np.eye(128, dtype=np.float32)
    white = Statistics(hessian=identity, tokens=128, sample=identity, peaks=identity[:16])
    arrays, _ = encoded(Awq(bits=4), gaussian((16, 128)), white)
    np.testing.assert_array_equal(arrays["input_scales"].astype(np.float32), 1)


def test_what_it_stores():
    weight = gaussian((128, 256))
    arrays, _ = encoded(Awq(bits=3), weight, seen(inputs(256)))
    assert sum(array.nbytes for array in arrays.values()) * 8 == weight.size * (3 + 32 / 64) + 256 * 16


def test_silent_inputs_and_a_silent_layer():
    weight, x = gaussian((16, 128)), inputs(128)
    x[:, :70] = 0  # a whole group and more
    for silent in (x, np.zeros_like(x)):
        decoded = encoded(Awq(bits=4), weight, seen(silent))[1]
        assert np.isfinite(decoded).all()
        assert np.corrcoef(weight.ravel(), decoded.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("wrong", [{"bits": 7}, {"bits": 4, "group_size": 48}, {"bits": 4, "candidates": 0}])
def test_parameters_that_cannot_be(wrong):
    with pytest.raises(QuantbenchError):
        Awq(**wrong)
