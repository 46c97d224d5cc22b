"""MLX's floating-point formats against decoders and roundings written from the formats' definitions."""

import math

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from quantizers.contract import config_entry, layer_outputs

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.microscaling import LARGEST, SMALLEST, Mxfp4, Mxfp8, Nvfp4
from pytest_quantbench.quantizers.numerics.bit_packing import unpack
from pytest_quantbench.quantizers.numerics.microscaled_formats import FORMATS

EVERY = [Mxfp4(), Mxfp8(), Nvfp4()]
E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def matrix(shape, seed=0, sigma=0.02):
    return (sigma * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def e4m3(code):
    """Sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinities."""
    sign, exponent, mantissa = code >> 7, code >> 3 & 15, code & 7
    size = mantissa / 8 * 2**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    return -size if sign else size


def slow_decode(arrays, quantizer):
    """Code by code, from the formats' definitions."""
    codes = unpack(np.array(arrays["weight"]).view(np.uint8), quantizer.bits)
    scales = np.array(arrays["scales"])
    whole = float(arrays["global_scale"].item()) if "global_scale" in arrays else 1.0
    out = np.empty(codes.shape)
    for (row, column), code in np.ndenumerate(codes):
        scale = int(scales[row, column // FORMATS[quantizer.name].group])
        factor = e4m3(scale) if quantizer.name == "nvfp4" else 2.0 ** (scale - 127)
        value = e4m3(int(code)) if quantizer.bits == 8 else (-1) ** (int(code) >> 3) * E2M1[int(code) & 7]
        out[row, column] = value * factor * whole
    return out


def snr(weight, decoded):
    original = np.array(weight).astype(np.float64)
    return 10 * math.log10((original**2).sum() / ((original - decoded) ** 2).sum())


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_decoding_is_that_of_the_formats(quantizer):
    arrays = quantizer.encode(matrix((4, 64)), None, 0)
    np.testing.assert_allclose(np.array(quantizer.decode(arrays)), slow_decode(arrays, quantizer), rtol=1e-6)


@pytest.mark.parametrize("quantizer", [Mxfp4(), Nvfp4()], ids=repr)
def test_codes_are_the_nearest_of_their_group(quantizer):
    weight = matrix((8, 64))
    arrays = quantizer.encode(weight, None, 0)
    decoded, original = np.array(quantizer.decode(arrays)), np.array(weight)
    scales = np.array(arrays["scales"]).repeat(FORMATS[quantizer.name].group, axis=1)
    for (row, column), value in np.ndenumerate(original):
        scale = int(scales[row, column])
        step = 2.0 ** (scale - 127) if quantizer.name == "mxfp4" else e4m3(scale) * arrays["global_scale"].item()
        least = min(abs(abs(value) - level * step) for level in E2M1)
        assert abs(decoded[row, column] - value) <= least + 1e-6 * step


@pytest.mark.parametrize(("quantizer", "bits"), [(Mxfp4(), 4.25), (Mxfp8(), 8.25), (Nvfp4(), 4.5)], ids=repr)
def test_stored_bits(quantizer, bits):
    arrays = quantizer.encode(matrix((64, 256)), None, 0)
    whole = 32 if quantizer.name == "nvfp4" else 0
    assert 8 * sum(array.nbytes for array in arrays.values()) == bits * 64 * 256 + whole


@pytest.mark.parametrize(("quantizer", "known"), [(Mxfp4(), 18.52), (Mxfp8(), 31.53), (Nvfp4(), 20.43)], ids=repr)
def test_snr_on_gaussian_weights(quantizer, known):
    weight = matrix((256, 1024))
    assert snr(weight, np.array(quantizer.decode(quantizer.encode(weight, None, 0)))) == pytest.approx(known, abs=0.15)


@pytest.mark.parametrize("sigma", [1e-30, 1e-8, 0.001, 0.002, 1.0, 1e30])
def test_the_unit_of_the_weights_does_not_matter(sigma):
    """nvfp4 without its scale of the whole matrix has 0 dB at 0.001."""
    for quantizer in EVERY:
        weight = (
            matrix((64, 256), sigma=sigma)
            if sigma > 1e-10
            else np.float32(sigma) * np.array(matrix((64, 256), sigma=1))
        )
        decoded = np.array(quantizer.decode(quantizer.encode(weight, None, 0)))
        assert snr(np.array(weight) / np.float32(sigma), decoded / np.float32(sigma)) > 18


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_a_power_of_two_passes_through(quantizer):
    weight = matrix((16, 128))
    first, second = (np.array(quantizer.decode(quantizer.encode(w, None, 0))) for w in (weight, 4 * weight))
    np.testing.assert_array_equal(4 * first, second)


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
@pytest.mark.parametrize("shape", [(1, 64), (5, 1), (3, 172), (17, 33), (1, 1), (1, 16), (3, 48), (2, 48)])
def test_any_shape_and_the_native_layer(quantizer, shape):
    arrays = quantizer.encode(matrix(shape).astype(ml_dtypes.bfloat16), None, 0)
    decoded = np.array(quantizer.decode(arrays))
    assert decoded.shape == shape
    x = np.random.default_rng(1).standard_normal((3, shape[1])).astype(np.float32)
    np.testing.assert_allclose(layer_outputs(quantizer, arrays, x), x @ decoded.T, rtol=1e-4, atol=1e-6)
    columns = arrays["scales"].shape[1] * FORMATS[quantizer.name].group
    assert quantizer.note(shape, {}) == ("" if columns == shape[1] else f"rows padded from {shape[1]} to {columns}")
    assert ("in_features" in arrays) == (columns != shape[1])


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-40, 1e-38, 1e38, -3.3e38])
def test_the_ends_of_the_range_are_finite(quantizer, value):
    """MLX itself makes infinities of 1e-38 and of 3.3e38 in the mx formats, and zeros of everything small in nvfp4."""
    weight = np.tile(np.float32([value, value / 3]), (2, 32))
    decoded = np.array(quantizer.decode(quantizer.encode(weight, None, 0)))
    expected = np.where(np.abs(weight) < SMALLEST, 0, np.clip(weight, -LARGEST, LARGEST))
    np.testing.assert_allclose(decoded, expected, rtol=0.25)


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_an_outlier_leaves_the_other_groups_alone(quantizer):
    original = np.array(matrix((8, 128)))
    original[3, 5] = 100
    decoded = np.array(quantizer.decode(quantizer.encode(original, None, 0)))
    error = (decoded - original)[:, 32:]
    assert np.sqrt((error**2).mean()) < 0.2 * original[:, 32:].std()


def test_all_codes_are_used():
    """But for −0, which rounding never gives in nvfp4."""
    for quantizer, count in ((Mxfp4(), 15), (Nvfp4(), 15)):
        codes = unpack(np.array(quantizer.encode(matrix((64, 256)), None, 0)["weight"]).view(np.uint8), 4)
        assert len(np.unique(codes)) >= count


def test_mlx_opens_the_mx_formats():
    import mlx.nn as nn

    x = matrix((2, 64), sigma=1)
    for quantizer in (Mxfp4(), Mxfp8()):
        arrays = quantizer.encode(matrix((8, 64)), None, 0)
        entry = config_entry(quantizer, arrays)
        assert entry == {"group_size": 32, "bits": quantizer.bits, "mode": quantizer.name}
        layer = nn.QuantizedLinear(64, 8, False, **entry)
        layer.update({name: mx.array(array) for name, array in arrays.items()})
        np.testing.assert_allclose(np.array(layer(mx.array(x))), x @ quantizer.decode(arrays).T, rtol=1e-4, atol=1e-5)
        assert config_entry(quantizer, quantizer.encode(matrix((8, 60)), None, 0)) is None
    assert config_entry(Nvfp4(), Nvfp4().encode(matrix((8, 64)), None, 0)) is None


@pytest.mark.parametrize(("method", "bits"), [(Mxfp4, 8), (Mxfp4, 3), (Nvfp4, 2), (Mxfp8, 4)])
def test_a_width_that_the_format_does_not_have_is_refused(method, bits):
    with pytest.raises(QuantbenchError, match=f"bits = {bits}: it is a method of"):
        method(bits=bits)
