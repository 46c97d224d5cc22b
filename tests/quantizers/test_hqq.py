"""HQQ against a solver written weight by weight, and against rounding."""

import math

import ml_dtypes
import numpy as np
import pytest

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.hqq import HalfQuadratic, Hqq
from pytest_quantbench.quantizers.numerics import affine, grid_fitting
from pytest_quantbench.quantizers.rtn import Rtn


def matrix(shape, seed=0, tails=False):
    rng = np.random.default_rng(seed)
    noise = np.sqrt(0.6) * rng.standard_t(5, shape) if tails else rng.standard_normal(shape)
    return (0.02 * noise.astype(np.float32)).astype(ml_dtypes.bfloat16)


def dense(quantizer, weight):
    return np.array(quantizer.decode(quantizer.encode(weight, None, 0)))


def snr(weight, decoded):
    original = weight.astype(np.float32).astype(np.float64)
    return 10 * math.log10((original**2).sum() / ((original - decoded) ** 2).sum())


def half(value):
    return float(np.float16(value))


def slow_group(weights, bits, p=0.7, beta=10.0, kappa=1.01, turns=20):
    """One group: split every residual, fit scale and zero point to what is followed, keep the best ℓp loss."""
    top = 2**bits - 1
    low, high = min(weights), max(weights)
    scale, zero, best = half((high - low) / top), half(low), None
    for turn in range(turns + 1):
        codes = [min(max(round((w - zero) / scale), 0), top) for w in weights]
        errors = [(w - zero) / scale - q for w, q in zip(weights, codes, strict=True)]
        loss = sum(abs(scale * r) ** p for r in errors)
        if best is None or loss < best[0]:
            best = loss, scale, zero, codes
        sparse = [
            math.copysign(max(abs(r) - max(abs(r), 1e-9) ** (p - 1) / (beta * kappa**turn), 0), r) for r in errors
        ]
        targets = [w - scale * e for w, e in zip(weights, sparse, strict=True)]
        slope, _ = np.polyfit(codes, targets, 1)
        scale = half(slope)
        zero = half(np.mean(targets) - scale * np.mean(codes))
    return best


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_codes_and_losses_are_those_of_a_slow_solver(bits):
    weight = matrix((4, 128))
    arrays = Hqq(bits=bits).encode(weight, None, 0)
    codes = affine.codes_of(arrays, bits)
    original = weight.astype(np.float32)
    same, ours, theirs = [], 0.0, 0.0
    for row in range(4):
        for first in (0, 64):
            part = original[row, first : first + 64]
            loss, *_, expected = slow_group([float(w) for w in part], bits)
            same.append(np.mean(codes[row, first : first + 64] == expected))
            theirs += loss
            ours += float(
                (np.abs(np.array(dense(Hqq(bits=bits), weight))[row, first : first + 64] - part) ** 0.7).sum()
            )
    assert np.mean(same) > 0.97
    assert ours == pytest.approx(theirs, rel=0.005)


def test_the_split_is_generalized_soft_thresholding():
    residuals = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32)).astype(np.float32)
    losses, followed = HalfQuadratic(power=0.7, beta=10.0, kappa=1.01)(residuals, 7)
    np.testing.assert_allclose(losses, (np.abs(residuals) ** 0.7).sum(2), rtol=1e-5)
    beta = 10 * 1.01**7
    sparse = np.sign(residuals) * np.maximum(np.abs(residuals) - np.abs(residuals) ** -0.3 / beta, 0)
    np.testing.assert_allclose(followed, residuals - sparse, atol=1e-6)
    assert 0 < (sparse == 0).mean() < 0.5


def test_no_residual_splits_without_a_warning():
    losses, followed = HalfQuadratic(power=0.7, beta=10.0, kappa=1.01)(np.zeros((1, 1, 4), np.float32), 0)
    assert losses.item() < 1e-5
    np.testing.assert_array_equal(followed, 0)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_solver_lowers_the_norm_it_is_for(bits):
    weight = matrix((32, 256), tails=True)
    original = weight.astype(np.float32)
    losses = [(np.abs(dense(Hqq(bits=bits, turns=turns), weight) - original) ** 0.7).sum() for turns in (0, 5, 20)]
    assert losses[0] > 1.02 * losses[1] > 1.02 * losses[2]
    assert losses[2] < (np.abs(dense(Rtn(bits=bits), weight) - original) ** 0.7).sum()


@pytest.mark.parametrize("tails", [False, True])
@pytest.mark.parametrize(("bits", "lead"), [(2, 1.2), (3, 0.7), (4, 0.4), (8, 0.1)])
def test_snr_is_above_rounding_at_equal_bits(bits, lead, tails):
    weight = matrix((128, 512), seed=7, tails=tails)
    assert snr(weight, dense(Hqq(bits=bits), weight)) > snr(weight, dense(Rtn(bits=bits), weight)) + lead


@pytest.mark.parametrize(("bits", "known"), [(2, 7.3), (3, 14.7), (4, 21.3)])
def test_snr_is_above_the_solver_that_moves_only_the_zero_point(bits, known):
    weight = matrix((128, 512), seed=7)
    assert snr(weight, dense(Hqq(bits=bits), weight)) > known


@pytest.mark.parametrize("outlier", [1e4, 1e30, -3e38])
def test_an_outlier_spoils_only_its_group(outlier):
    original = matrix((8, 128)).astype(np.float32)
    original[3, 5] = outlier
    decoded = dense(Hqq(bits=4), original)
    assert np.isfinite(decoded).all()
    assert decoded[3, 5] == pytest.approx(outlier, rel=0.01)
    error = (decoded - original)[:, 64:]
    assert np.sqrt((error**2).mean()) < 0.1 * original[:, 64:].std()


@pytest.mark.parametrize("scale", [1e-41, 1e-30, 1e-8, 4.0, 1e30])
def test_any_unit_of_the_weights(scale):
    original = 50 * matrix((8, 128)).astype(np.float32)
    weight = original * np.float32(scale)
    decoded = dense(Hqq(bits=4), weight)
    assert np.isfinite(decoded).all()
    if scale > 1e-38:  # below, MLX counts as zero
        assert snr(original, decoded / np.float32(scale)) > 20
    if scale == 4:
        np.testing.assert_array_equal(decoded, 4 * dense(Hqq(bits=4), original))


def test_small_weights_are_stored_in_bfloat16():
    small, usual = 1e-6 * matrix((2, 64)).astype(np.float32), matrix((2, 64))
    assert Hqq(bits=4).encode(small, None, 0)["scales"].dtype == ml_dtypes.bfloat16
    assert (
        grid_fitting.stored_type(grid_fitting.steps(grid_fitting.normalised(usual)[0][:, None], 4), -grid_fitting.TOP)
        == np.float16
    )


@pytest.mark.parametrize(
    ("field", "value"), [("bits", 7), ("group_size", 48), ("p", 0.0), ("beta", -1.0), ("turns", -1)]
)
def test_what_cannot_be_is_refused(field, value):
    with pytest.raises(QuantbenchError, match=field):
        Hqq(**({"bits": 4} | {field: value}))
