"""Decoded matrices against the originals: sound codes are left alone, every kind of damage is named where it is."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.measures.integrity import block_sums
from pytest_quantbench.measures.integrity.likeness import across, findings, kept, likeness
from pytest_quantbench.workbench.side_by_side import methods

GROUP = 64


def weights(shape, seed=0, heavy=False):
    rng = np.random.default_rng(seed)
    return (0.02 * (rng.standard_t(5, shape) if heavy else rng.standard_normal(shape))).astype(np.float32)


def grids(matrix, bits=4):
    """(rows, groups) smallest value and step of each group of 64."""
    parts = matrix.reshape(len(matrix), -1, GROUP)
    low = parts.min(-1)
    return low, (parts.max(-1) - low) / (2**bits - 1)


def rounded(matrix, bits=4, low=None, step=None):
    """Plain rounding; with `low` and `step`, the codes of the right grids decoded by these."""
    own_low, own_step = grids(matrix, bits)
    parts = matrix.reshape(len(matrix), -1, GROUP)
    codes = np.rint((parts - own_low[..., None]) / own_step[..., None])
    low, step = own_low if low is None else low, own_step if step is None else step
    return (codes * step[..., None] + low[..., None]).reshape(matrix.shape).astype(np.float32)


def problems(original, decoded, bits=4.5):
    return " ".join(likeness("the matrix", original, decoded, bits).problems)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**31), st.booleans())
def test_sound_rounding_is_never_named(bits, rows, groups, seed, heavy):
    matrix = weights((rows, GROUP * groups), seed, heavy)
    assert problems(matrix, rounded(matrix, bits), bits + 0.5) == ""


def test_expected_and_found_signal_to_noise():
    matrix = weights((256, 512))
    found = likeness("m", matrix, rounded(matrix), 4.5)
    assert found.snr_db == pytest.approx(20.8, abs=0.2)
    assert found.rounding_db == pytest.approx(found.snr_db, abs=0.2)
    assert found.gap_db == pytest.approx(0, abs=0.2)


def slow_sums(before, after):
    """Block by block."""
    rows, width = before.shape
    found = {name: [] for name in ("weight", "error", "error_square", "product", "span", "shift")}
    for row in range(rows):
        for start in range(0, width, GROUP):
            w, d = (each[row, start : start + GROUP].astype(np.float64) for each in (before, after))
            found["weight"].append(abs(w).sum())
            found["error"].append(abs(d - w).sum())
            found["error_square"].append(((d - w) ** 2).sum())
            found["shift"].append((d - w).sum())
            found["product"].append((w * d).sum())
            found["span"].append(max(w.max(), 0) - min(w.min(), 0))
    return found


@given(st.integers(1, 5), st.integers(1, 200), st.integers(0, 1000))
def test_the_sums_are_those_of_block_after_block(rows, width, seed):
    before, after = weights((rows, width), seed), weights((rows, width), seed + 1)
    sums = block_sums.block_sums(before, after)
    slow = slow_sums(before, after)
    size = {name: slow[name] for name in slow} | {"shift": slow["error"], "product": slow["span"]}  # where terms cancel
    for name, expected in slow.items():
        off = abs(getattr(sums, name).ravel() - expected)
        assert (off <= 1e-4 * np.array(size[name]) + 1e-9).all(), name


def test_many_rows_are_summed_a_few_at_a_time(monkeypatch):
    before, after = weights((50, 130)), weights((50, 130), 1)
    whole = block_sums.block_sums(before, after)
    monkeypatch.setattr(block_sums, "AT_ONCE", 300)
    np.testing.assert_allclose(block_sums.block_sums(before, after).error, whole.error)


def test_zeros_untouched_and_unreadable_matrices():
    matrix = weights((32, 128))
    assert problems(matrix, np.zeros_like(matrix)) == "the matrix comes back as zeros."
    assert "comes back untouched, to the last bit, from 4.50 bits per weight" in problems(matrix, matrix.copy())
    assert problems(matrix, matrix.copy(), 16.0) == ""  # 16 bits hold it
    on_grid = rounded(matrix)
    assert problems(on_grid, on_grid.copy()) == ""  # it was on the code's grid before
    assert problems(np.zeros_like(matrix), np.zeros_like(matrix)) == ""
    assert "NaN or infinite" in problems(matrix, np.where(matrix > 0, matrix, np.nan))
    assert "(32, 128) and comes back as (128, 32)" in problems(matrix, matrix.T)


def test_rows_and_columns_that_trade_places_are_named():
    matrix = weights((64, 512))
    rows, columns = rounded(matrix), rounded(matrix)
    rows[[3, 9]] = rows[[9, 3]]
    told = problems(matrix, rows)
    assert "has lost 2 of 64 rows (3, 9: cosine" in told
    assert "it is permuted: row 3 holds what belongs in 9, row 9 holds what belongs in 3" in told
    columns[:, 64:192] = np.roll(columns[:, 64:192], 64, axis=1)
    assert "column block 1 holds what belongs in 2" in problems(matrix, columns)
    reversed_rows = problems(matrix, rounded(matrix)[::-1])
    assert "has lost 64 of 64 rows" in reversed_rows
    assert "row 0 holds what belongs in 63" in reversed_rows
    shifted = problems(matrix, np.roll(rounded(matrix), 64, axis=1))
    assert "it is permuted" in shifted or "rows" in shifted


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_one_group_of_wrong_sign_among_thousands_is_named_with_its_place(bits):
    matrix = weights((256, 1024))
    low, step = grids(matrix, bits)
    low[17, 5], step[17, 5] = -low[17, 5], -step[17, 5]
    told = problems(matrix, rounded(matrix, bits, low, step), bits + 0.5)
    assert "has 1 of 4,096 groups of 64 weights" in told
    assert "(row 17, columns from 320)" in told


def test_the_grid_of_the_next_group_is_named():
    matrix = weights((256, 512))
    low, step = (np.roll(each, 1, axis=1) for each in grids(matrix))
    assert "where plain rounding has" in problems(matrix, rounded(matrix, 4, low, step))


def test_a_lost_block_of_columns_and_a_row_of_another_size():
    matrix = weights((128, 512))
    lost, halved, worse = rounded(matrix), rounded(matrix), rounded(matrix)
    lost[:, -64:] = 0
    assert "has lost 1 of 8 column blocks (7" in problems(matrix, lost)
    halved[5] *= 0.5
    assert "1 of 128 rows of another size (5: 0.50 times" in problems(matrix, halved)
    worse[:, 64:128] = rounded(matrix, 2)[:, 64:128]
    assert "times the error of other columns in those from 64" in problems(matrix, worse)


def test_sizes_outside_float32_squares_change_nothing():
    matrix = weights((32, 128))
    swapped = rounded(matrix)
    swapped[[0, 1]] = swapped[[1, 0]]
    for factor in (1e-30, 1e30):
        times = np.float32(factor)
        assert problems(matrix * times, rounded(matrix) * times) == ""
        assert "row 0 holds what belongs in 1" in problems(matrix * times, swapped * times)


def test_stacked_experts_are_matrices_one_after_the_other():
    matrix = weights((4, 16, 128))
    decoded = rounded(matrix.reshape(64, 128)).reshape(matrix.shape)
    assert problems(matrix, decoded) == ""
    assert "row 0 holds what belongs in 16" in problems(matrix, decoded[[1, 0, 2, 3]])


def test_kept_tensors_have_to_be_the_same():
    norm = 1 + weights((64,))
    assert kept("norm", norm, norm.copy()).problems == ()
    lost = kept("norm", norm, np.ones_like(norm)).problems
    assert lost[0].startswith("norm is said to be kept as it was, and is not: 64 of its 64 values differ")
    assert "all of one value" in lost[0]
    one = norm.copy()
    one[3] += 1e-3
    assert "1 of its 64 values differ" in kept("norm", norm, one).problems[0]
    assert "comes back as (63,)" in kept("norm", norm, norm[:63]).problems[0]


def test_a_matrix_far_below_the_others_of_its_code_is_named():
    found = []
    for seed in range(6):
        matrix = weights((128, 512), seed)
        noise = weights(matrix.shape, 100) * np.float32(0.12 if seed == 4 else 0.05)
        found.append(likeness(f"matrix {seed}", matrix, matrix + noise, 4.5, "one"))
    (told,) = [*across(found)]
    assert told.startswith("matrix 4 has an SNR of 18.")
    assert "usually have" in told
    assert findings(found) == (told,)
    assert [*across(found[3:5])] == []  # of two, neither is usual


def test_findings_of_matrices_come_before_those_of_all():
    matrix = weights((64, 128))
    bad = likeness("bad", matrix, np.zeros_like(matrix), 4.5)
    good = likeness("good", matrix, rounded(matrix), 4.5)
    assert findings([good, bad]) == ("bad comes back as zeros.",)
    assert block_sums.LOST < 0.5


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize(
    ("factor", "offset", "told"),
    [
        (1, 0.15, "its mean error is 15% of the mean absolute weight"),
        (1, -0.15, "its mean error is 15% of the mean absolute weight"),
        (0.85, 0, "larger it would be nearer to the original"),
        (1.15, 0, "% too large as a whole"),
    ],
)
def test_what_all_groups_share_is_named(bits, factor, offset, told):
    matrix = weights((512, 512))
    decoded = rounded(matrix, bits) * np.float32(factor) + np.float32(offset) * np.abs(matrix).mean()
    assert told in problems(matrix, decoded, bits + 0.5)


def odd_matrices():
    rng = np.random.default_rng(0)
    shape = (64, 512)
    for size in (0.0125, 0.02, 1.0):
        yield f"signs of {size}", size * rng.choice([-1.0, 1.0], shape)
        yield f"ternary of {size}", size * rng.integers(-1, 2, shape)
    for mean in (1, 1.3, -1.1):
        yield f"close to {mean}", rng.normal(mean, 0.01, shape)
    for times in (10, 60, 1000):
        outlying = 0.02 * rng.standard_normal(shape)
        outlying[:, 5] *= times
        yield f"a column times {times}", outlying
    yield "heavy tails", 0.02 * rng.standard_t(3, shape)


@pytest.mark.parametrize("matrix", [pytest.param(matrix, id=name) for name, matrix in odd_matrices()])
@pytest.mark.parametrize("method", ["rtn", "hqq", "nibble", "mxfp4", "mxfp8", "nvfp4"])
def test_sound_codes_of_odd_matrices_are_not_named(method, matrix):
    weight = matrix.astype(np.float32).astype(ml_dtypes.bfloat16)
    original = weight.astype(np.float32)
    for _, width, quantizer in methods([method]):
        arrays = quantizer.encode(weight, None, 0)
        decoded = quantizer.decode(arrays)
        stored = 8 * sum(array.nbytes for array in arrays.values()) / original.size
        assert problems(original, decoded, min(stored, width + 0.5)) == ""


@pytest.mark.parametrize("bits", [2, 3, 4])  # at 8, MLX's 16-bit scales are most of the error
def test_the_rounding_that_excuses_is_that_of_mlx(bits):
    matrix = weights((32, 256))
    (quantizer,) = (made for _, width, made in methods(["rtn"]) if width == bits)
    arrays = quantizer.encode(matrix, None, 0)
    expected = quantizer.decode(arrays)
    found = block_sums._affine(matrix.reshape(32, -1, GROUP), bits).reshape(matrix.shape)
    lost = [np.square(each - matrix).sum() for each in (found, expected)]
    assert lost[0] == pytest.approx(lost[1], rel=0.03)


@pytest.mark.parametrize(("bits", "signal_to_noise_db"), [(4.5, 20.8), (8.5, 34)])
def test_rounding_excuses_nothing_on_gaussian_weights(bits, signal_to_noise_db):
    noise, excesses = block_sums.worst_rounding(weights((256, 512)), bits)
    assert -10 * np.log10(noise) == pytest.approx(signal_to_noise_db, abs=0.5)
    assert (excesses < 0.015).all()


def test_floating_point_puts_every_value_on_its_levels():
    """E2M1 has 0, 0.5, 1, 1.5, 2, 3, 4 and 6; a tie goes to the even mantissa."""
    values = np.array([[[6.0, 5.5, 4.4, 3.4, 2.6, 1.7, 1.2, 0.7, 0.3, 0.2, -7.0, -0.8]]], np.float32)
    found = block_sums._floating(values, 1)
    assert found[0, 0].tolist() == [6, 6, 4, 3, 3, 1.5, 1, 0.5, 0.5, 0, -6, -1]


def test_signs_may_all_lie_between_two_levels():
    """E2M1 puts 5 at 4 or 6: a fifth of every weight."""
    signs = np.where(weights((8, 128)) > 0, 1, -1).astype(np.float32)
    noise, excesses = block_sums.worst_rounding(signs, 4.25)
    assert noise == pytest.approx(0.2**2 / 1.8, rel=0.4)
    assert excesses.max() == pytest.approx(0.2, abs=0.06)
