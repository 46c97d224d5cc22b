"""Nibble against an exact search over all scales, and super weights against a slow reading of their definition."""

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from quantizers.contract import layer_outputs, native

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.nibble import Nibble, take_super_weights
from pytest_quantbench.quantizers.numerics.bit_packing import pack, unpack

SHAPES = [(64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33), (1100, 32)]
NIBBLE = Nibble()


def gaussian(shape, seed=0, deviation=0.02):
    return (deviation * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def student(shape, seed=0):
    return (0.02 * np.sqrt(0.6) * np.random.default_rng(seed).standard_t(5, shape)).astype(np.float32)


def inputs(size, tokens=2048, seed=0, outliers=4):
    """Correlated inputs with channels of very different sizes, a few of them 15 times larger still."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((size, size)) * (1 + np.arange(size))[:, None] ** -0.4
    gains = np.exp(0.5 * rng.standard_normal(size))
    gains[rng.permutation(size)[:outliers]] *= 15
    return (rng.standard_normal((tokens, size)) @ mixing * gains).astype(np.float32)


def seen(x):
    """The statistics of a calibration that saw the inputs x (tokens, in)."""
    largest = np.argsort(-np.abs(x).max(axis=1))[:16]
    return Statistics(hessian=x.T @ x / np.float32(len(x)), tokens=len(x), sample=x[:64], peaks=x[largest])


def encoded(weight, statistics=None, codec=NIBBLE):
    arrays = codec.encode(weight, statistics, 0)
    return arrays, np.array(codec.decode(arrays))


def decibels(weight, decoded, hessian=None):
    """Weight SNR, or output SNR under a Hessian."""
    metric = np.eye(weight.shape[1]) if hessian is None else hessian.astype(np.float64)
    signal, error = weight.astype(np.float64), weight - decoded.astype(np.float64)
    return 10 * np.log10((signal @ metric * signal).sum() / (error @ metric * error).sum())


def levels_of(arrays):
    """(out, padded) levels from −8 to 7 and (out, groups) scales, read from the stored bytes."""
    return unpack(np.array(arrays["weight"]).view(np.uint8), 4).astype(int) - 8, np.array(arrays["scales"], np.float64)


# The scales, against a search that misses none


def least_error(weights, importance):
    """The least Σ h (w − s q)² over all s and levels q from −8 to 7, for one group.

    Levels change only where some w / s is halfway between two; between two such places the best s is a ratio of sums.
    """
    least = np.inf
    for sign in (1, -1):
        halfway = [(k + 0.5) / (sign * w) for w in weights for k in range(-8, 7) if w and (k + 0.5) / (sign * w) > 0]
        places = np.sort(halfway)
        for reciprocal in [*(places[1:] + places[:-1]) / 2, 2 * places[-1]]:
            levels = np.clip(np.round(sign * weights * reciprocal), -8, 7)
            scale = (importance * weights * levels).sum() / (importance * levels**2).sum()
            least = min(least, (importance * (weights - scale * levels) ** 2).sum())
    return least


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("group", [32, 128])
@pytest.mark.parametrize("draw", [gaussian, student])
def test_scales_are_within_one_percent_of_the_best_there_are(draw, group, calibrated):
    weight, x = draw((12, 128), seed=5), inputs(128)
    _, decoded = encoded(weight, seen(x) if calibrated else None, Nibble(group_size=group))
    importance = (x.astype(float) ** 2).mean(axis=0) if calibrated else np.ones(128)
    least = sum(
        least_error(row[start : start + group].astype(float), importance[start : start + group])
        for row in weight
        for start in range(0, 128, group)
    )
    assert 0.999 * least <= (importance * (weight - decoded.astype(float)) ** 2).sum() <= 1.01 * least


@pytest.mark.parametrize("statistics", [None, seen(inputs(128))], ids=["plain", "calibrated"])
def test_every_code_is_the_nearest_level_of_the_stored_scale(statistics):
    weight = gaussian((16, 128))
    levels, scales = levels_of(encoded(weight, statistics)[0])
    for i in range(16):
        for j in range(128):
            distances = [abs(float(weight[i, j]) - level * scales[i, j // 32]) for level in range(-8, 8)]
            assert distances[levels[i, j] + 8] <= min(distances) + 1e-9


@pytest.mark.parametrize("group", [32, 64, 128])
def test_a_code_and_its_share_of_a_scale_are_stored(group):
    weight = gaussian((64, 256))
    arrays, decoded = encoded(weight, codec=Nibble(group_size=group))
    assert 8 * sum(array.nbytes for array in arrays.values()) / weight.size == 4 + 16 / group
    levels, scales = levels_of(arrays)
    np.testing.assert_array_equal(pack((levels + 8).astype(np.uint8), 4).view(np.uint32), np.array(arrays["weight"]))
    np.testing.assert_allclose(decoded, levels * np.repeat(scales, group, axis=1), rtol=1e-6)


def test_all_sixteen_levels_and_both_signs_of_the_scale_are_used():
    levels, scales = levels_of(encoded(gaussian((64, 256)))[0])
    share = np.bincount(levels.ravel() + 8) / levels.size
    assert len(share) == 16
    assert share.min() > 0.005
    assert 0.4 < (scales > 0).mean() < 0.6


def by_rule(weight, signed):
    """Rounding with the largest weight on level −8 of a signed scale, or on ±7."""
    decoded = np.empty(weight.shape)
    for i, group in enumerate(weight.reshape(-1, 32).astype(float)):
        largest = group[np.abs(group).argmax()]
        scale = float(np.float16(largest / -8 if signed else abs(largest) / 7))
        decoded.reshape(-1, 32)[i] = np.clip(np.round(group / scale), -8, 7) * scale
    return decoded


@pytest.mark.parametrize(("draw", "least"), [(gaussian, 21.7), (student, 19.5)])
def test_the_search_beats_both_rules(draw, least):
    for seed in range(3):
        weight = draw((256, 512), seed)
        ours = decibels(weight, encoded(weight)[1])
        assert ours > least
        assert ours > decibels(weight, by_rule(weight, signed=True)) + 0.2
        assert ours > decibels(weight, by_rule(weight, signed=False)) + 1.2


@pytest.mark.parametrize("draw", [gaussian, student])
@pytest.mark.parametrize("seed", range(3))
def test_calibration_gains_decibels_where_inputs_differ(draw, seed):
    weight, x = draw((256, 512), seed), inputs(512, seed=seed)
    statistics = seen(x)
    plain, calibrated = (decibels(weight, encoded(weight, s)[1], statistics.hessian) for s in (None, statistics))
    assert calibrated > plain + 2


def test_errors_fall_with_smaller_groups():
    weight, statistics = gaussian((64, 512)), seen(inputs(512))
    for s, hessian in ((None, None), (statistics, statistics.hessian)):
        snr = [decibels(weight, encoded(weight, s, Nibble(group_size=g))[1], hessian) for g in (128, 64, 32)]
        assert snr == sorted(snr)


def test_only_the_proportions_of_the_hessian_matter_and_inputs_never_seen_still_count():
    weight, statistics = gaussian((32, 96)), seen(inputs(96))
    larger = Statistics(
        hessian=statistics.hessian * np.float32(2**20), tokens=1, sample=statistics.sample, peaks=statistics.peaks
    )
    np.testing.assert_array_equal(encoded(weight, statistics)[1], encoded(weight, larger)[1])
    x = inputs(96)
    x[:, :64] = 0  # the first two groups were never seen: they are encoded as if their inputs were alike
    _, decoded = encoded(weight, seen(x))
    assert decibels(weight[:, :64], decoded[:, :64]) > 21
    nothing = encoded(weight, seen(np.zeros((4, 96), np.float32)))[1]
    assert decibels(weight, nothing) > 21


def test_one_enormous_input_does_not_blur_the_importance_of_the_others():
    weight, x = gaussian((64, 96)), inputs(96, outliers=0)
    error = [encoded(weight, seen(x))[1] - weight]
    x[:, 0] *= 3000
    error.append(encoded(weight, seen(x))[1] - weight)
    np.testing.assert_array_equal(error[0][:, 32:], error[1][:, 32:])
    assert np.median(np.abs(error[1][:, 0])) < 0.01 * np.median(np.abs(error[0][:, 0]))


# Super weights


def planted(places, size=256, out=320, value=2.0, seed=0):
    """A weight with large scalars at the places, and inputs of which one token has spikes at their columns."""
    weight, x = gaussian((out, size), seed), np.random.default_rng(seed + 1).standard_normal((200, size))
    for index, (row, column) in enumerate(places):
        weight[row, column] = value * (-1) ** index
        x[7, column] = 300.0 * (-1) ** index
    return weight, x.astype(np.float32)


def slow_super_weights(weight, peaks, most):
    """One at a time: the product of a weight and an input that stands out, if it makes an output stand out."""

    def background(values):
        magnitudes = sorted(abs(float(v)) for v in values)
        smaller = magnitudes[: len(values) - len(values) // 10]
        return (sum(v * v for v in smaller) / len(smaller)) ** 0.5

    rest, found = weight.astype(np.float64), []
    for _ in range(most):
        candidates = []
        for x in peaks.astype(np.float64):
            y = rest @ x
            least_input, least_output = 25 * background(x), 25 * background(y)
            for i in range(len(y)):
                for j in range(len(x)):
                    product = rest[i, j] * x[j] * np.sign(y[i]) if abs(y[i]) > least_output else 0
                    if abs(x[j]) > least_input and product > least_output:
                        candidates.append((product, i, j))
        if not candidates:
            break
        _, row, column = max(candidates)
        rest[row, column] = 0
        found.append((row, column))
    return found


PLANTED = [
    [(3, 70)],
    [(12, 40), (200, 40), (90, 40)],
    [(5, 1), (5, 99), (5, 100)],
    [(1, 2), (30, 40), (319, 255), (7, 9)],
]


@pytest.mark.parametrize("places", PLANTED, ids=str)
def test_planted_super_weights_are_found_and_are_those_of_the_slow_reference(places):
    weight, x = planted(places)
    peaks = seen(x).peaks[:2]  # the token with the spikes and another
    found = take_super_weights(weight.copy(), peaks, 6)
    assert sorted(found) == sorted(places)
    assert sorted(slow_super_weights(weight, peaks, 6)) == sorted(found)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("places", PLANTED, ids=str)
def test_a_super_weight_is_kept_exactly_and_counted(places, dtype):
    weight, x = planted(places, value=1.2345678)
    source = weight.astype(dtype)
    arrays = NIBBLE.encode(source, seen(x), 0)
    decoded = np.array(NIBBLE.decode(arrays))
    original = source.astype(np.float32)
    for row, column in places:
        assert decoded[row, column] == original[row, column]
    assert arrays["super_values"].dtype == dtype
    extra = sum(array.nbytes for array in arrays.values()) - weight.size * 4.5 / 8
    assert extra == len(places) * (8 + np.dtype(dtype).itemsize)


@pytest.mark.parametrize("places", PLANTED, ids=str)
def test_keeping_super_weights_helps_them_and_their_groups(places):
    weight, x = planted(places)
    statistics = seen(x)
    _, kept = encoded(weight, statistics)
    without, lost = encoded(weight, statistics, Nibble(super_weights=0))
    assert "super_places" not in without
    spike = x[7]
    assert np.linalg.norm(spike @ (weight - kept).T) < np.linalg.norm(spike @ (weight - lost).T)
    assert decibels(weight, kept, statistics.hessian) > decibels(weight, lost, statistics.hessian)
    for row, column in places:
        group = slice(column // 32 * 32, column // 32 * 32 + 32)
        others = [j for j in range(256)[group] if (row, j) not in places]
        error, error_lost = (np.abs(d[row, others] - weight[row, others]).max() for d in (kept, lost))
        assert error < 0.5 * error_lost


def test_no_more_are_kept_than_asked_for():
    places = [(10 * k, 20 * k) for k in range(1, 9)]  # eight
    weight, x = planted(places)
    assert len(encoded(weight, seen(x))[0]["super_values"]) == 6
    assert encoded(weight, seen(x), Nibble(super_weights=2))[0]["super_places"].shape == (2, 2)


def test_outliers_of_inputs_or_of_weights_alone_make_no_super_weight():
    ordinary = np.random.default_rng(3).standard_normal((200, 256)).astype(np.float32)
    weight, x = planted([(3, 70)])
    calm = gaussian((320, 256))
    for some_weight, some_inputs in (
        (calm, ordinary),
        (calm, x),  # the input's spike reaches every output alike
        (weight, ordinary),  # a large weight whose input is like the others
        (student((320, 256)), ordinary),
        (calm, inputs(256)),
        (calm, np.zeros((20, 256), np.float32)),
        (np.zeros((320, 256), np.float32), x),
    ):
        assert take_super_weights(some_weight.copy(), seen(some_inputs).peaks, 6) == []
        assert "super_values" not in encoded(some_weight, seen(some_inputs))[0]


@pytest.mark.parametrize("size", [1, 2, 8, 20])
def test_matrices_too_small_for_a_background_have_none(size):
    weight, x = gaussian((size, size)), inputs(size, outliers=1)
    assert take_super_weights(weight, seen(x).peaks, 6) == []


@pytest.mark.parametrize(("of_weight", "of_input"), [(2.0**-10, 1), (1, 2.0**-10), (2.0**8, 2.0**8)])
def test_units_do_not_matter(of_weight, of_input):
    weight, x = planted(PLANTED[1])
    found = take_super_weights(np.float32(of_weight) * weight, np.float32(of_input) * seen(x).peaks, 6)
    assert sorted(found) == sorted(PLANTED[1])


def test_sparse_inputs_have_a_background_too():
    """Behind a ReLU most inputs are zero."""
    weight, x = planted([(3, 70)])
    x[np.abs(x) < 2] = 0
    assert take_super_weights(weight, seen(x).peaks, 6) == [(3, 70)]
    assert take_super_weights(gaussian((320, 256)), np.eye(16, 256, dtype=np.float32), 6) == []


# The native layer, and matrices of every kind


@pytest.mark.parametrize("places", [[], *PLANTED], ids=str)
def test_the_native_layer_agrees_with_decode_super_weights_and_all(places):
    weight, x = planted(places)
    arrays, decoded = encoded(weight, seen(x))
    assert ("super_places" in arrays) == bool(places)
    tokens = x[:12].reshape(2, 6, 256)
    expected = tokens @ decoded.T
    assert np.abs(layer_outputs(NIBBLE, arrays, tokens) - expected).max() <= 1e-4 * np.abs(expected).max()
    assert native(NIBBLE, arrays, mx.bfloat16)(mx.array(tokens).astype(mx.bfloat16)).dtype == mx.bfloat16


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("deviation", [0.02, 1e-6, 1e5])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_comes_back_and_through_the_native_layer(shape, deviation, calibrated):
    weight, x = gaussian(shape, 0, deviation), inputs(shape[1], outliers=1)
    arrays, decoded = encoded(weight, seen(x) if calibrated else None)
    assert decoded.shape == shape
    assert decibels(weight, decoded) > (15 if calibrated else 20)
    expected = x[:4] @ decoded.T
    assert np.abs(layer_outputs(NIBBLE, arrays, x[:4]) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("columns", "note"),
    [(64, ""), (172, "rows padded from 172 to 192"), (1, "rows padded from 1 to 32")],
)
def test_padding_is_said_and_counted(columns, note):
    arrays, _ = encoded(gaussian((4, columns)))
    padded = -(-columns // 32) * 32
    assert NIBBLE.note((4, columns), {}) == note
    assert arrays["weight"].nbytes == 4 * padded / 2
    assert ("in_features" in arrays) == (padded != columns)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("power", [-100, -24, -6, 2, 20, 100])
def test_scaling_by_a_power_of_two_scales_the_result_exactly(power, calibrated):
    weight, statistics = gaussian((16, 96)), seen(inputs(96)) if calibrated else None
    _, decoded = encoded(weight, statistics)
    np.testing.assert_array_equal(encoded(np.ldexp(weight, power), statistics)[1], np.ldexp(decoded, power))


def test_powers_are_stored_only_where_float16_is_not_enough():
    assert "exponents" not in encoded(gaussian((4, 64)))[0]
    weight = gaussian((4, 64)) * np.array([[1], [1e-7], [1e7], [0]], np.float32)
    arrays, decoded = encoded(weight)
    exponents = np.array(arrays["exponents"])[:, 0]
    assert exponents[1] < 0 < exponents[2]
    assert exponents[0] == exponents[3] == 0
    assert all(decibels(weight[k : k + 1], decoded[k : k + 1]) > 20 for k in range(3))
    assert not decoded[3].any()


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("value", [0.0, 0.75, -3.0, 1e-30, -1e30])
def test_constant_matrices_survive(value, calibrated):
    weight = np.full((8, 64), value, np.float32)
    statistics = seen(inputs(64)) if calibrated else None
    np.testing.assert_allclose(encoded(weight, statistics)[1], value, rtol=0.001)


@pytest.mark.parametrize("outlier", [1e3, -1e30, 3e38])
def test_an_outlier_costs_only_its_group(outlier):
    weight = gaussian((16, 64))
    calm = encoded(weight)[1]
    weight[3, 5] = outlier
    _, decoded = encoded(weight)
    np.testing.assert_array_equal(np.delete(decoded, 3, axis=0), np.delete(calm, 3, axis=0))
    assert decoded[3, 5] == pytest.approx(outlier, rel=0.001)
    if outlier == 1e3:
        assert decibels(weight[3:4, 32:], decoded[3:4, 32:]) > 20


@pytest.mark.parametrize("deviation", [1e-37, 1e-40, 1e-44])
def test_subnormal_weights_stay_finite_and_small(deviation):
    weight = gaussian((8, 64), deviation=deviation)
    _, decoded = encoded(weight)
    assert np.isfinite(decoded).all()
    assert np.abs(decoded - weight).max() <= np.abs(weight).max()


@pytest.mark.parametrize(("field", "value"), [("group_size", 48), ("group_size", 16), ("super_weights", -1)])
def test_it_refuses_what_cannot_be(field, value):
    with pytest.raises(QuantbenchError, match=f"{field} = {value}"):
        Nibble(**{field: value})
