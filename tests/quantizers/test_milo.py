"""MiLo against a slow alternation in float64, against rounding at equal bits, and where compensators pay or do not."""

import math
from pathlib import Path

import numpy as np
import pytest
from quantizers.contract import config_entry, layer_outputs
from small_models import shared

import pytest_quantbench
from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.hqq import Hqq
from pytest_quantbench.quantizers.milo import Milo
from pytest_quantbench.quantizers.numerics import affine
from pytest_quantbench.quantizers.numerics import low_rank as lowrank
from pytest_quantbench.quantizers.rtn import Rtn

TINY = Path(pytest_quantbench.__file__).parent / "tiny" / "model" / "model.safetensors"


def gaussian(shape, seed=0):
    return (0.02 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def channels(rows=128, columns=512):
    """Three input channels twelve times larger than the others."""
    weight = gaussian((rows, columns))
    weight[:, [7, 100, 300]] *= 12
    return weight


def planted(rows=128, columns=512, rank=4, seed=3):
    rng = np.random.default_rng(seed)
    structure = 0.02 * rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
    return gaussian((rows, columns)) + structure.astype(np.float32)


def encoded(quantizer, weight, statistics=None):
    arrays = quantizer.encode(weight, statistics, 0)
    return arrays, np.array(quantizer.decode(arrays)), 8 * sum(array.nbytes for array in arrays.values()) / weight.size


def snr(weight, decoded, counted=1.0):
    error = (weight.astype(np.float64) - decoded) ** 2
    return 10 * math.log10((weight.astype(np.float64) ** 2 * counted).sum() / (error * counted).sum())


def rank_of(arrays):
    return arrays["left"].shape[0] if "left" in arrays else 0


def slow_grids(parts, bits):
    """For every group the best of a mesh of grids, each refined by three lines through the codes; decoded weights."""
    top, best, decoded = 2**bits - 1, np.full(len(parts), math.inf), np.empty_like(parts)
    low, high = parts.min(1, keepdims=True), parts.max(1, keepdims=True)
    for share in np.linspace(0.5, 1, 6):
        for shift in (-0.25, 0, 0.25):
            scale = share * (high - low) / top
            bias = (low + high) / 2 - scale * top / 2 + shift * scale
            for _ in range(4):
                codes = np.clip(np.rint((parts - bias) / scale), 0, top)
                found = codes * scale + bias
                loss = ((found - parts) ** 2).sum(1)
                decoded[loss < best] = found[loss < best]
                best = np.minimum(best, loss)
                spread = codes - codes.mean(1, keepdims=True)
                scale = (spread * parts).sum(1, keepdims=True) / (spread**2).sum(1, keepdims=True)
                bias = parts.mean(1, keepdims=True) - scale * codes.mean(1, keepdims=True)
    return decoded


def slow_milo(weight, bits, group, rank, factor_bits=None):
    """Seven turns of exhaustive grids and exact SVDs from the low-rank part; then three with coded factors if asked."""

    def low_rank(rest, coded):
        u, s, v = np.linalg.svd(rest, full_matrices=False)
        sides = (u[:, :rank] * np.sqrt(s[:rank])).T, np.sqrt(s[:rank])[:, None] * v[:rank]
        if coded:
            sides = (lowrank.quantized(x.astype(np.float32), factor_bits, np.float16).values for x in sides)
        left, right = sides
        return left.T.astype(np.float64) @ right

    errors, product = [], low_rank(weight, False)
    for turn in range(10 if factor_bits else 7):
        rounded = slow_grids((weight - product).reshape(-1, group), bits).reshape(weight.shape)
        errors.append(((weight - rounded - product) ** 2).sum())
        product = low_rank(weight - rounded, factor_bits is not None and turn >= 6)
    return min(errors[7:] or errors)


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize(("factor_bits", "coded"), [(8, None), (4, 4)], ids=["fine", "coarse"])
def test_the_error_is_that_of_a_slow_alternation(bits, factor_bits, coded, monkeypatch):
    """With 8-bit factors that of one whose factors are not quantized at all; 4-bit factors cost 15 to 25 % more."""
    monkeypatch.setattr("pytest_quantbench.quantizers.milo.FACTOR_BITS", (factor_bits,))
    ours = slow = 0.0
    for seed in (0, 3, 5, 6):
        weight = planted(32, 128, rank=2, seed=seed)
        arrays, decoded, _ = encoded(Milo(bits=bits, group_size=32, rank=2, budget=9), weight)
        assert rank_of(arrays) == 2
        ours += ((weight - decoded) ** 2).sum()
        slow += slow_milo(weight.astype(np.float64), bits, 32, 2, coded)
    assert ours < 1.03 * slow


@pytest.mark.parametrize("weight", [channels(), planted()], ids=["channels", "planted"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_structure_is_worth_a_compensator(weight, bits):
    arrays, decoded, stored = encoded(Milo(bits=bits), weight)
    assert rank_of(arrays) >= 3
    assert stored <= bits + 0.5
    for rival in (Rtn(bits=bits), Hqq(bits=bits), Milo(bits=bits, rank=0)):
        _, plain, _ = encoded(rival, weight)
        assert snr(weight, decoded) > snr(weight, plain) + 0.9


@pytest.mark.parametrize("rank", [2, 4])
def test_the_rank_stops_where_the_structure_does(rank):
    """There is room for 10, but the ranks tried are 10, 5, 2, 1: the least that holds the structure is taken."""
    arrays, _, stored = encoded(Milo(bits=3, budget=1), planted(192, 192, rank=rank))
    assert rank <= rank_of(arrays) < 2 * rank
    assert stored < 4


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("shape", [(256, 256), (64, 1024), (512, 128)])
def test_independent_weights_are_above_rounding_at_equal_bits(bits, shape):
    weight = gaussian(shape, seed=5)
    _, decoded, stored = encoded(Milo(bits=bits), weight)
    assert stored <= bits + 0.5
    for rival, lead in ((Rtn(bits=bits), 0.8), (Hqq(bits=bits), 0.1), (Milo(bits=bits, group_size=64, rank=0), -1e-6)):
        assert snr(weight, decoded) > snr(weight, encoded(rival, weight)[1]) + lead


@pytest.mark.parametrize("name", ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"])
@pytest.mark.parametrize(("bits", "over_rtn", "over_hqq", "over_plain"), [(2, 2.4, 0.9, 0.5), (3, 1.5, 0.6, 0.3)])
def test_matrices_of_tiny_are_above_rounding_with_more_bits(name, bits, over_rtn, over_hqq, over_plain):
    weight = load(TINY)[f"model.layers.1.{name}.weight"].astype(np.float32)
    _, decoded, stored = encoded(Milo(bits=bits), weight)
    for rival, lead in ((Rtn(bits=bits), over_rtn), (Hqq(bits=bits), over_hqq), (Milo(bits=bits, rank=0), over_plain)):
        _, plain, rival_bits = encoded(rival, weight)
        assert stored <= rival_bits
        assert snr(weight, decoded) > snr(weight, plain) + lead


def test_matrices_too_small_for_a_compensator_are_above_rounding_at_equal_bits():
    for name, array in load(shared("stories260k", "model.safetensors")).items():
        if "layers.3." not in name or array.ndim != 2:
            continue
        weight = array.astype(np.float32)
        _, decoded, stored = encoded(Milo(bits=3), weight)
        for rival in (Rtn(bits=3), Hqq(bits=3)):
            _, plain, rival_bits = encoded(rival, weight)
            assert stored <= rival_bits
            assert snr(weight, decoded) > snr(weight, plain) + 0.1


def test_snr_goal_on_gaussian_weights():
    weight = gaussian((256, 768), seed=5)
    _, decoded, stored = encoded(Milo(bits=3), weight)
    assert snr(weight, decoded) > 15.6
    assert stored <= 3.5


def statistics(columns, seed=1):
    """Inputs of which every sixteenth is fifteen times larger."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((2 * columns, columns)) * np.where(np.arange(columns) % 16, 1, 15)
    inputs = inputs.astype(np.float32)
    return Statistics(
        hessian=inputs.T @ inputs / len(inputs), tokens=len(inputs), sample=inputs[:64], peaks=inputs[:16]
    )


def test_calibration_spends_the_precision_where_inputs_are_large():
    weight, calibration = gaussian((128, 256)), statistics(256)
    counted = np.diag(calibration.hessian)
    _, plain, _ = encoded(Milo(bits=3), weight)
    _, weighted, stored = encoded(Milo(bits=3), weight, calibration)
    assert stored <= 3.5
    assert snr(weight, weighted, counted) > snr(weight, plain, counted) + 2
    assert 5 < snr(weight, weighted) < snr(weight, plain)


def test_inputs_that_were_never_seen_still_get_weights():
    weight, calibration = gaussian((32, 128)), statistics(128)
    calibration.hessian[:, :40] = calibration.hessian[:40] = 0
    _, decoded, _ = encoded(Milo(bits=3), weight, calibration)
    assert snr(weight[:, :40], decoded[:, :40]) > 3
    silent = Statistics(hessian=0 * calibration.hessian, tokens=1, sample=calibration.sample, peaks=calibration.peaks)
    np.testing.assert_array_equal(encoded(Milo(bits=3), weight, silent)[1], encoded(Milo(bits=3), weight)[1])


def test_stored_bits_are_the_formula():
    arrays, _, stored = encoded(Milo(bits=3), channels())
    rank, factor_bits = rank_of(arrays), arrays["left"].shape[1] * 8 // 128
    assert arrays["scales"].shape[1] == 4
    assert factor_bits in (4, 8)
    factors = lowrank.cost(rank, 128, factor_bits) + lowrank.cost(rank, 512, factor_bits)
    assert stored * 128 * 512 == 3.25 * 128 * 512 + factors


def test_the_budget_is_kept_and_used():
    bits = [encoded(Milo(bits=3, budget=budget), planted())[1:] for budget in (0.25, 0.3, 0.4, 0.5)]
    for (_, stored), budget in zip(bits, (0.25, 0.3, 0.4, 0.5), strict=True):
        assert stored <= 3 + budget
    errors = [((decoded - planted()) ** 2).sum() for decoded, _ in bits]
    assert errors == sorted(errors, reverse=True)


def test_without_a_compensator_mlx_opens_it():
    quantizer = Milo(bits=3, rank=0)
    arrays, _, _ = encoded(quantizer, gaussian((16, 256)))
    assert config_entry(quantizer, arrays) == {"group_size": 64, "bits": 3}
    arrays, _, _ = encoded(Milo(bits=3), channels())
    assert config_entry(Milo(bits=3), arrays) is None


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_all_codes_are_used(bits):
    for weight in (gaussian((64, 256)), channels()):
        arrays, _, _ = encoded(Milo(bits=bits), weight)
        assert set(np.unique(affine.codes_of(arrays, bits))) == set(range(2**bits))


@pytest.mark.parametrize("shape", [(1, 64), (5, 1), (3, 172), (17, 33), (1, 1), (130, 300), (128, 512)])
def test_any_shape_and_the_native_layer(shape):
    weight = channels(*shape) if shape[1] > 300 else gaussian(shape)
    arrays, decoded, _ = encoded(Milo(bits=3, budget=1), weight)
    assert decoded.shape == shape
    x = np.random.default_rng(1).standard_normal((3, shape[1])).astype(np.float32)
    expected = x @ decoded.T
    assert np.abs(layer_outputs(Milo(bits=3), arrays, x) - expected).max() < 1e-4 * np.abs(expected).max() + 1e-7
    group = affine.group_of(arrays, 3)
    rank = f"rank {len(arrays['left'])}" if "left" in arrays else "no compensator"
    said = [affine.note(shape[1], group, 3), f"{rank}, group {group}"]
    assert Milo(bits=3).note(shape, arrays) == ", ".join(filter(None, said))


@pytest.mark.parametrize("weight", [gaussian((16, 128)), channels(64, 512)], ids=["plain", "channels"])
def test_units_and_repetition(weight):
    quantizer = Milo(bits=3)
    arrays, decoded, _ = encoded(quantizer, weight)
    again, _, _ = encoded(quantizer, weight)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    np.testing.assert_array_equal(encoded(quantizer, 4 * weight)[1], 4 * decoded)
    for scale in (1e-30, 1e-8, 1e30):
        other = encoded(quantizer, weight * np.float32(scale))[1] / np.float32(scale)
        assert snr(weight, other) > snr(weight, decoded) - 0.3


@pytest.mark.parametrize("value", [0.0, 0.75, -3.0])
def test_constant_matrices(value):
    np.testing.assert_allclose(encoded(Milo(bits=3), np.full((8, 256), value, np.float32))[1], value, rtol=0.005)


@pytest.mark.parametrize("outlier", [1e4, -3e38])
def test_an_outlier_and_subnormal_weights(outlier):
    weight = gaussian((16, 128))
    weight[3, 5] = outlier
    decoded = encoded(Milo(bits=3), weight)[1]
    assert np.isfinite(decoded).all()
    assert decoded[3, 5] == pytest.approx(outlier, rel=0.02)
    assert snr(weight[4:], decoded[4:]) > 12
    assert np.isfinite(encoded(Milo(bits=3), weight[:3] * np.float32(1e-39))[1]).all()


def test_rows_of_zeros_stay_nearly_zero_beside_a_compensator():
    weight = channels()
    weight[10:20] = 0
    _, decoded, _ = encoded(Milo(bits=3), weight)
    assert np.abs(decoded[10:20]).max() < 0.01


@pytest.mark.parametrize(("field", "value"), [("bits", 7), ("group_size", 48), ("rank", -1), ("iterations", 0)])
def test_what_cannot_be_is_refused(field, value):
    with pytest.raises(QuantbenchError, match=field):
        Milo(**({"bits": 3} | {field: value}))
