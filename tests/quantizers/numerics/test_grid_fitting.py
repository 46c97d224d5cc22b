"""Grids of groups against slow references: exhaustive search, loops over single weights, known limits."""

from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest

from pytest_quantbench.quantizers.numerics import grid_fitting, row_blocks

HALF = np.float16


def gaussian(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def loss_of(weights, scale, bias, bits, counted=None):
    """Σ (w − nearest level)², weight by weight."""
    levels = [float(scale) * code + float(bias) for code in range(2**bits)]
    counted = np.ones(len(weights)) if counted is None else counted
    return sum(
        float(c) * min((float(w) - level) ** 2 for level in levels) for w, c in zip(weights, counted, strict=True)
    )


def exhaustive(weights, bits):
    """The least loss on a fine mesh of scales and biases."""
    low, high = weights.min(), weights.max()
    best = np.inf
    for scale in np.linspace(0.4, 1.0, 49) * (high - low) / (2**bits - 1):
        biases = np.linspace(low, high - scale * (2**bits - 1), 49)
        codes = np.clip(np.rint((weights[:, None] - biases) / scale), 0, 2**bits - 1)
        best = min(best, ((codes * scale + biases - weights[:, None]) ** 2).sum(0).min())
    return best


@pytest.mark.parametrize("bits", [2, 3])
def test_a_fit_is_about_as_good_as_exhaustive_search(bits):
    weights = gaussian((6, 2, 32))
    grids = grid_fitting.fit(weights, bits, HALF, grid_fitting.Squared())
    best = np.array([[exhaustive(group, bits) for group in row] for row in weights])
    assert (grids.losses < 1.25 * best).all()
    assert grids.losses.sum() < 1.04 * best.sum()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_are_what_single_weights_say(bits, weighted):
    weights = gaussian((3, 2, 32))
    counted = np.exp(gaussian((2, 32), 1)) if weighted else None
    grids = grid_fitting.fit(weights, bits, HALF, grid_fitting.Squared(weights=counted))
    for row in range(3):
        for group in range(2):
            scale, bias = grids.scales[row, group], grids.biases[row, group]
            expected = loss_of(weights[row, group], scale, bias, bits, None if counted is None else counted[group])
            assert grids.losses[row, group] == pytest.approx(expected, rel=1e-3)


def slow_line(weights, scale, bias, bits, counted):
    """One turn: nearest codes, then numpy's own weighted line through them."""
    codes = np.clip(np.rint((weights - bias) / scale), 0, 2**bits - 1)
    return np.polyfit(codes, weights, 1, w=np.sqrt(counted))


def test_a_turn_is_a_weighted_line_through_the_codes():
    weights, counted = gaussian((4, 1, 64)), np.exp(gaussian((1, 64), 1))
    objective = grid_fitting.Squared(weights=counted)
    scales, biases = (grid_fitting.rounded(values, HALF) for values in grid_fitting.span(weights, 3))
    grids = grid_fitting.descend(weights, (scales, biases), 3, HALF, objective, 1)
    for row in range(4):
        scale, bias = slow_line(weights[row, 0], scales[row, 0], biases[row, 0], 3, counted[0])
        expected = loss_of(weights[row, 0], scale, bias, 3, counted[0])
        assert grids.losses[row, 0] == pytest.approx(expected, rel=5e-3)
        assert grids.scales[row, 0] == pytest.approx(scale, rel=2e-3)
        assert grids.biases[row, 0] == pytest.approx(bias, rel=5e-3)


def test_more_turns_and_more_starts_never_hurt():
    weights = gaussian((8, 4, 64))
    losses = [
        grid_fitting.descend(weights, grid_fitting.span(weights, 3), 3, HALF, grid_fitting.Squared(), n).losses
        for n in range(6)
    ]
    for fewer, more in pairwise(losses):
        assert (more <= fewer).all()
    few = grid_fitting.fit(weights, 3, HALF, grid_fitting.Squared(), grid_fitting.STARTS[:2])
    assert (grid_fitting.fit(weights, 3, HALF, grid_fitting.Squared()).losses <= few.losses).all()


@pytest.mark.parametrize(("bits", "known"), [(2, 0.11885), (3, 0.03744), (4, 0.01154)])
def test_huge_groups_approach_the_best_uniform_quantizer_of_a_gaussian(bits, known):
    """The mean square errors of Max 1960's uniform quantizers."""
    weights = gaussian((4, 1, 16384))
    weights = np.concatenate([weights, -weights], axis=2)  # a symmetric range: the grid starts in the middle
    starts = tuple((share, 0.0) for share in np.arange(0.3, 0.7, 0.03))
    grids = grid_fitting.fit(weights, bits, HALF, grid_fitting.Squared(), starts)
    assert grids.losses.sum() / weights.size == pytest.approx(known, rel=0.03)


@pytest.mark.parametrize(
    ("bits", "group", "snr"),
    [(2, 64, 9.8), (3, 64, 15.6), (4, 64, 21.7), (2, 128, 9.45), (3, 128, 14.9), (4, 128, 20.75)],
)
def test_snr_on_gaussian_groups(bits, group, snr):
    weights = gaussian((256, 512 // group, group))
    losses = grid_fitting.fit(weights, bits, HALF, grid_fitting.Squared()).losses
    assert 10 * np.log10((weights.astype(np.float64) ** 2).sum() / losses.sum()) > snr


def test_columns_without_weight_do_not_matter():
    weights = gaussian((4, 1, 64))
    counted = np.ones((1, 64), np.float32)
    counted[0, 40:] = 0
    spoiled = weights.copy()
    spoiled[:, :, 40:] = weights[:, :, :1]
    assert grid_fitting.fit(spoiled, 3, HALF, grid_fitting.Squared(weights=counted)).losses.sum() == pytest.approx(
        grid_fitting.fit(weights[:, :, :40], 3, HALF, grid_fitting.Squared()).losses.sum(), rel=0.1
    )


def test_rounding_to_16_bits_is_that_of_the_types():
    values = np.concatenate([gaussian(1000), 900 * gaussian(1000), np.float32([0, 1, -1, 65504, 1 + 2**-11, 2**-14])])
    values = values[(values == 0) | (np.abs(values) >= 2**-14)]
    np.testing.assert_array_equal(
        grid_fitting.rounded(values, np.float16), values.astype(np.float16).astype(np.float32)
    )
    bfloat = np.asarray(values, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(grid_fitting.rounded(values, ml_dtypes.bfloat16), bfloat)
    tiny = np.float32([1e-20, 3e-30])
    assert np.abs(grid_fitting.rounded(tiny, np.float16) / tiny - 1).max() < 2**-11  # no range of its own


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_grids_are_16_bit_numbers(kind):
    grids = grid_fitting.fit(gaussian((4, 2, 32)), 3, kind, grid_fitting.Squared())
    for values in (grids.scales, grids.biases):
        np.testing.assert_array_equal(grid_fitting.rounded(values, kind), values)
        stored = grid_fitting.stored(grids, kind, -7)[values is grids.biases]
        assert stored.dtype == kind
        np.testing.assert_array_equal(stored.astype(np.float32), values / 128)


@pytest.mark.parametrize("largest", [3.3e38, 1.0, 0.03, 1e-37])
def test_normalising_is_exact_and_undone_by_the_exponent(largest):
    weights = gaussian((4, 8))
    weights *= np.float32(largest) / np.abs(weights).max()
    dense, exponent = grid_fitting.normalised(np.asarray(weights, np.float32))
    assert 2.0 ** (grid_fitting.TOP - 1) <= np.abs(dense).max() <= 2.0**grid_fitting.TOP
    np.testing.assert_array_equal(np.ldexp(dense, exponent), weights)


def test_normalising_zeros_leaves_zeros():
    dense, _ = grid_fitting.normalised(np.zeros((2, 4)))
    np.testing.assert_array_equal(dense, 0)


def test_float16_where_it_can_hold_the_grids():
    kind = grid_fitting.stored_type
    scales = np.float32([[0.0, 2.0**grid_fitting.TOP / 8]])
    assert kind(scales, -grid_fitting.TOP) == np.float16
    assert kind(scales, 14 - grid_fitting.TOP) == np.float16
    assert kind(scales, 15 - grid_fitting.TOP) == ml_dtypes.bfloat16  # largest weights above 2^14
    assert kind(scales, -11 - grid_fitting.TOP) == np.float16
    assert kind(scales, -12 - grid_fitting.TOP) == ml_dtypes.bfloat16  # steps below 2^-14
    assert kind(np.zeros((1, 2), np.float32), 0 - grid_fitting.TOP) == np.float16


def test_constant_and_zero_groups():
    weights = np.zeros((2, 3, 32), np.float32)
    weights[0, 1], weights[1] = 0.3, -7
    grids = grid_fitting.fit(weights, 4, HALF, grid_fitting.Squared())
    codes = grid_fitting.codes_of(weights, grids, 4).reshape(weights.shape)
    decoded = codes * grids.scales[:, :, None] + grids.biases[:, :, None]
    np.testing.assert_allclose(decoded, weights, rtol=2**-11)
    np.testing.assert_array_equal(decoded[weights == 0], 0)


def test_steps_are_no_finer_than_a_bias_can_be_placed():
    scales, _ = grid_fitting.span(np.full((1, 1, 32), 5, np.float32), 8)
    assert scales[0, 0] == 5 * 2.0**-12


def test_blocks_make_no_difference(monkeypatch):
    weights = gaussian((50, 2, 32))
    fit = lambda rows: grid_fitting.fit(weights[rows], 3, HALF, grid_fitting.Squared())  # noqa: E731
    whole = grid_fitting.blockwise(weights, fit)
    monkeypatch.setattr(row_blocks, "BLOCK", 7 * 64)
    parts = grid_fitting.blockwise(weights, fit)
    np.testing.assert_array_equal(whole.scales, parts.scales)
    np.testing.assert_array_equal(whole.losses, parts.losses)


def test_all_codes_are_used():
    weights = gaussian((64, 4, 64))
    for bits in (2, 3, 4):
        grids = grid_fitting.fit(weights, bits, HALF, grid_fitting.Squared())
        assert set(np.unique(grid_fitting.codes_of(weights, grids, bits))) == set(range(2**bits))
