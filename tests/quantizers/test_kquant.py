"""K-quants against llama.cpp's search written out in loops, against gguf, and on matrices that are hard to encode."""

from functools import cache

import ml_dtypes
import numpy as np
import pytest
from quantizers.contract import layer_outputs

from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.engines.mlx.arrays import save
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.kquant import Kquant
from pytest_quantbench.quantizers.numerics import kquant_blocks
from pytest_quantbench.quantizers.numerics.kquant_blocks import LAYOUTS
from pytest_quantbench.quantizers.rtn import Rtn

BITS = (2, 3, 4, 5, 6)
SHAPES = [(64, 64), (8, 256), (1, 64), (3, 172), (5, 1), (17, 33), (2, 700), (1, 3000)]


def gauss(shape, seed=0):
    return (0.02 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def student(shape, seed=0):
    return (0.02 * np.random.default_rng(seed).standard_t(5, shape)).astype(np.float32)


@cache
def inputs(size, tokens=1024):
    """Correlated inputs with channel gains that differ, and four channels that are far larger."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((tokens, size)) / np.sqrt(1 + np.arange(size))
    gains = np.exp(0.5 * rng.standard_normal(size))
    gains[rng.permutation(size)[:4]] *= 15
    return hidden @ np.linalg.qr(rng.standard_normal((size, size)))[0] * gains


def statistics(x):
    x = x.astype(np.float32)
    return Statistics(hessian=x.T @ x / len(x), tokens=len(x), sample=x[:16], peaks=x[:4])


def dense(quantizer, weight, given=None):
    return np.array(quantizer.decode(quantizer.encode(weight, given, 0)))


def db(signal, error):
    return 10 * np.log10(np.sum(signal.astype(np.float64) ** 2) / np.sum(error.astype(np.float64) ** 2))


def output_db(weight, decoded, x):
    return db(weight @ x.T, (weight - decoded) @ x.T)


def blocks_of(quantizer, weight, given=None):
    packed = np.array(quantizer.encode(weight, given, 0)["blocks"])
    return kquant_blocks.unpack(packed.reshape(-1, LAYOUTS[quantizer.bits].size), quantizer.bits)


def importance(block, power, bits):
    """llama.cpp's weight of an error."""
    return power * np.sqrt((1 if bits == 2 else 2) * np.mean(block**2) + block**2)


def slow_affine(values, weights, most):
    """One sub-block: 37 grids up from its minimum, each fitted once with the minimum kept at or below zero."""
    low = min(values.min(), 0.0)
    best, scale, minimum = np.inf, 0.0, -low
    for step in range(37):
        codes = np.clip(np.rint((-0.9 + 0.05 * step + most) / (values.max() - low) * (values - low)), 0, most)
        matrix = np.stack([codes, np.ones_like(codes)], 1)
        normal = matrix.T @ (weights[:, None] * matrix)
        if abs(np.linalg.det(normal)) < 1e-12 * normal[0, 0]:
            continue
        s, b = np.linalg.solve(normal, matrix.T @ (weights * values))
        if b > 0:
            s, b = np.sum(weights * values * codes) / normal[0, 0], 0.0
        error = np.sum(weights * (s * codes + b - values) ** 2)
        if error < best:
            best, scale, minimum = error, s, -b
    return scale, minimum


def slow_symmetric(values, weights, least):
    """One sub-block: 19 grids that put its weight of largest magnitude near the lowest code, each fitted once."""
    extreme, best, scale = values[np.abs(values).argmax()], 0.0, 0.0
    for step in range(-9, 10):
        codes = np.clip(np.rint((least - 0.1 * step) / extreme * values), least, -least - 1)
        product, square = np.sum(weights * values * codes), np.sum(weights * codes**2)
        if product**2 / square > best:
            best, scale = product**2 / square, product / square
    return scale


def slow_integers(targets, weights, bottom, top):
    """The step of nine around (largest / end) whose multiples fit best, and the integers; the step in float16."""
    largest = targets[np.abs(targets).argmax()]
    best, unit = -1.0, 0.0
    for step in range(-4, 5):
        end = top + 0.1 * step if bottom == 0 else bottom - 0.1 * step
        integers = np.clip(np.rint(targets * end / largest), bottom, top) if largest else 0 * targets
        product, square = np.sum(weights * targets * integers), np.sum(weights * integers**2)
        if square and product**2 / square > best:
            best, unit = product**2 / square, product / square
    unit = float(np.float16(unit))
    return unit, np.clip(np.rint(targets / unit), bottom, top) if unit else 0 * targets


def slow_error(weight, power, bits):
    """Weighted squared error of the whole matrix with llama.cpp's search."""
    layout, total = LAYOUTS[bits], 0.0
    codes = np.arange(2**bits) - layout.offset
    for row in weight.astype(np.float64):
        for start in range(0, len(row), 256):
            block = row[start : start + 256]
            values = block.reshape(-1, layout.sub)
            weights = importance(block, power[start : start + 256], bits).reshape(values.shape)
            pairs = list(zip(values, weights, strict=True))
            if layout.minimums:
                found = np.array([slow_affine(v, w, 2**bits - 1) for v, w in pairs])
            else:
                found = np.array([(slow_symmetric(v, w, -layout.offset), 0.0) for v, w in pairs])
            d, scales = slow_integers(found[:, 0], weights.sum(1), layout.bottom, layout.top)
            dmin, minimums = slow_integers(found[:, 1], weights.sum(1), 0, layout.top)
            for (v, w), scale, minimum in zip(pairs, d * scales, dmin * minimums, strict=True):
                total += np.sum(w * np.min((v[:, None] - (scale * codes - minimum)) ** 2, axis=1))
    return total


@pytest.mark.parametrize("kind", [gauss, student])
@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_the_search_is_no_worse_than_llama_cpps(bits, calibrated, kind):
    weight = kind((4, 512), seed=3)
    given = statistics(inputs(512)) if calibrated else None
    power = np.diag(given.hessian).astype(np.float64) if calibrated else np.ones(512)
    decoded = dense(Kquant(bits=bits), weight, given)
    ours = sum(
        np.sum(importance(row[s : s + 256], power[s : s + 256], bits) * (row - other)[s : s + 256] ** 2)
        for row, other in zip(weight.astype(np.float64), decoded.astype(np.float64), strict=True)
        for s in (0, 256)
    )
    assert ours <= slow_error(weight, power, bits) * (1.005 if bits == 3 else 0.99)


@pytest.mark.parametrize("bits", BITS)
def test_codes_are_the_nearest_ones(bits):
    """No other code of the stored grids is nearer: tried one by one."""
    weight, layout = gauss((8, 512), seed=1), LAYOUTS[bits]
    blocks = blocks_of(Kquant(bits=bits), weight)
    scales, minimums = (part[:, :, None, None].astype(np.float64) for part in kquant_blocks.multipliers(blocks))
    levels = scales * (np.arange(2**bits) - layout.offset) - minimums
    values = weight.reshape(-1, 256 // layout.sub, layout.sub, 1).astype(np.float64)
    distances = np.abs(values - levels)
    taken = np.take_along_axis(distances, blocks.codes.reshape(values.shape).astype(int), 3)[..., 0]
    assert (taken <= distances.min(3) * (1 + 1e-4) + 1e-9).all()


@pytest.mark.parametrize("bits", BITS)
def test_decoding_agrees_with_gguf_to_the_last_bit(bits):
    gguf = pytest.importorskip("gguf")
    quantizer = Kquant(bits=bits)
    arrays = quantizer.encode(student((16, 768)), statistics(inputs(768)), 0)
    theirs = gguf.quants.dequantize(np.array(arrays["blocks"]), gguf.GGMLQuantizationType[LAYOUTS[bits].name])
    np.testing.assert_array_equal(np.array(quantizer.decode(arrays)).view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize("bits", BITS)
def test_storage_is_the_blocks_and_nothing_else(bits):
    arrays = Kquant(bits=bits).encode(gauss((16, 1024)), None, 0)
    assert set(arrays) == {"blocks"}
    assert arrays["blocks"].dtype == np.uint8
    assert 8 * arrays["blocks"].nbytes / (16 * 1024) == {2: 2.625, 3: 3.4375, 4: 4.5, 5: 5.5, 6: 6.5625}[bits]


@pytest.mark.parametrize("bits", BITS)
def test_all_codes_and_many_integers_are_used(bits):
    blocks = blocks_of(Kquant(bits=bits), gauss((32, 1024)))
    layout = LAYOUTS[bits]
    assert set(np.unique(blocks.codes)) == set(range(2**bits))
    assert len(np.unique(blocks.scales)) > 8
    assert np.abs(blocks.scales).max() >= layout.top - 1
    assert layout.minimums == blocks.minimums.any()


@pytest.mark.parametrize(("bits", "goal"), [(2, 11.28), (3, 16.80), (4, 22.95), (5, 28.99), (6, 35.22)])
def test_gaussian_weights_reach_the_measured_snr(bits, goal):
    weight = gauss((128, 1024), seed=7)
    assert db(weight, weight - dense(Kquant(bits=bits), weight)) > goal - 0.05


@pytest.mark.parametrize("bits", BITS)
def test_statistics_lower_the_output_error(bits):
    weight, x = gauss((64, 512), seed=2), inputs(512)
    plain = output_db(weight, dense(Kquant(bits=bits), weight), x)
    assert output_db(weight, dense(Kquant(bits=bits), weight, statistics(x)), x) > plain + 1.5


def test_error_falls_with_bits_and_below_rounding_at_equal_bits():
    weight = gauss((64, 512))
    errors = [db(weight, weight - dense(Kquant(bits=bits), weight)) for bits in BITS]
    assert errors == sorted(errors)
    rounded = Rtn(bits=4, group_size=64)  # 4.5 bits per weight, as Q4_K
    assert errors[2] > db(weight, weight - dense(rounded, weight)) + 1.5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", BITS)
def test_any_shape_works(bits, shape, tmp_path):
    quantizer, weight = Kquant(bits=bits), gauss(shape)
    arrays = quantizer.encode(weight.astype(ml_dtypes.bfloat16), None, 0)
    decoded = np.array(quantizer.decode(dict(arrays)))
    assert decoded.shape == shape
    assert decoded.dtype == np.float32
    assert db(weight, weight - decoded) > 5 * bits
    assert ("in_features" in arrays) == (shape[1] % 256 > 0) == bool(quantizer.note(shape, {}))
    save(tmp_path / "a.safetensors", arrays)
    np.testing.assert_array_equal(np.array(quantizer.decode(load(tmp_path / "a.safetensors"))), decoded)


def test_padding_is_said_and_touches_no_other_block():
    quantizer, weight = Kquant(bits=4), gauss((6, 300))
    assert quantizer.note((6, 300), {}) == "rows padded from 300 to 512"
    assert quantizer.note((6, 512), {}) == ""
    arrays = quantizer.encode(weight, None, 0)
    assert arrays["blocks"].shape == (6, 2 * 144)
    np.testing.assert_array_equal(dense(quantizer, weight)[:, :256], dense(quantizer, weight[:, :256]))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("value", [0.0, 0.75, -3.0, 1e-3])
@pytest.mark.parametrize("shape", [(8, 64), (4, 256)])
def test_constant_matrices_survive(bits, value, shape):
    np.testing.assert_allclose(dense(Kquant(bits=bits), np.full(shape, value, np.float32)), value, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_scaling_the_weight_scales_the_result(bits):
    weight = gauss((16, 512))
    for given in (None, statistics(inputs(512))):
        np.testing.assert_array_equal(
            dense(Kquant(bits=bits), 64 * weight, given), 16 * dense(Kquant(bits=bits), 4 * weight, given)
        )


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("size", [1e-39, 1e-20, 1e-6, 1e4, 1e20, 1e37])
def test_values_of_any_size_give_finite_weights(bits, size):
    weight = (size * np.random.default_rng(0).standard_normal((4, 512))).astype(np.float32)
    decoded = dense(Kquant(bits=bits), weight)
    assert np.isfinite(decoded).all()
    if size in (1e-6, 1e4):  # within what float16 block scales can hold
        assert db(weight, weight - decoded) > 5 * bits


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("outlier", [50.0, -2e5])
def test_an_outlier_spoils_no_other_block(bits, outlier):
    weight = gauss((4, 512))
    plain = dense(Kquant(bits=bits), weight)
    weight[2, 300] = outlier
    decoded = dense(Kquant(bits=bits), weight)
    assert decoded[2, 300] == pytest.approx(outlier, rel=2e-3)
    assert np.isfinite(decoded).all()
    np.testing.assert_array_equal(np.delete(decoded, 2, axis=0), np.delete(plain, 2, axis=0))
    np.testing.assert_array_equal(decoded[2, :256], plain[2, :256])


@pytest.mark.parametrize("bits", [3, 4])
def test_dead_inputs_and_an_empty_hessian_are_no_trouble(bits):
    x = inputs(300).copy()
    x[:, :40] = 0
    weight = gauss((8, 300))
    decoded = dense(Kquant(bits=bits), weight, statistics(x))
    assert np.abs(decoded[:, :40]).max() < 1
    plain = dense(Kquant(bits=bits), weight)
    assert output_db(weight, decoded, x) > output_db(weight, plain, x)
    np.testing.assert_array_equal(dense(Kquant(bits=bits), weight, statistics(0 * x)).shape, weight.shape)


@pytest.mark.parametrize("shape", [(16, 512), (5, 300), (1, 7)])
@pytest.mark.parametrize("bits", [4, 5])
def test_the_native_layer_agrees_with_decode(bits, shape):
    quantizer = Kquant(bits=bits)
    arrays = quantizer.encode(student(shape), None, 0)
    x = np.random.default_rng(1).standard_normal((4, shape[1]))
    expected = x @ quantizer.decode(arrays).T
    assert np.abs(layer_outputs(quantizer, arrays, x) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("bits", [2, 3, 6])
def test_types_with_groups_of_16_have_no_native_layer(bits):
    assert Kquant(bits=bits).layer(Kquant(bits=bits).encode(gauss((4, 256)), None, 0)) is None


def test_chunks_make_no_difference(monkeypatch):
    weight = gauss((40, 512))
    whole = dense(Kquant(bits=4), weight)
    monkeypatch.setattr("pytest_quantbench.quantizers.kquant.CHUNK", 3000)
    np.testing.assert_array_equal(dense(Kquant(bits=4), weight), whole)


@pytest.mark.parametrize("bits", [1, 7, 8])
def test_other_widths_are_refused_with_the_choices(bits):
    with pytest.raises(QuantbenchError, match=r"bits = .; .*2, 3, 4, 5, 6"):
        Kquant(bits=bits)
