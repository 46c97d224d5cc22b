"""QuIP# against a slow reference written from the paper: dense rotations, a fresh solve per block, all words tried."""

import ml_dtypes
import numpy as np
import pytest
from scipy.linalg import hadamard as sylvester

from pytest_quantbench.checkpoints.tensor_file import load
from pytest_quantbench.engines.mlx.arrays import save
from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers import Statistics
from pytest_quantbench.quantizers.numerics import e8_lattice, hadamard
from pytest_quantbench.quantizers.quip import Quip

SHAPES = [(64, 64), (8, 128), (1, 64), (3, 172), (5, 1), (17, 33), (172, 8)]


def statistics(hessian):
    """Statistics with this Hessian; quip looks at nothing else."""
    none = np.zeros((1, len(hessian)), np.float32)
    return Statistics(hessian=hessian.astype(np.float32), tokens=1, sample=none, peaks=none)


def correlated(size, seed=0):
    """Inputs with a power-law spectrum in a random basis, log-normal gains and two outlier channels → E[x xᵀ]."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((3 * size, size)) * (1 + np.arange(size)) ** -0.4
    basis, _ = np.linalg.qr(rng.standard_normal((size, size)))
    gains = np.exp(0.5 * rng.standard_normal(size))
    gains[rng.permutation(size)[:2]] *= 15
    inputs = inputs @ basis * gains
    hessian = inputs.T @ inputs / len(inputs)
    return hessian / np.diag(hessian).mean()


def gaussian(rows, columns, seed=5):
    return (0.02 * np.random.default_rng(seed).standard_normal((rows, columns))).astype(np.float32)


def encoded(weight, hessian, seed=0, **fields):
    """The arrays, and what they decode to."""
    quantizer = Quip(**fields)
    arrays = quantizer.encode(weight, statistics(hessian), seed)
    return arrays, np.array(quantizer.decode(arrays))


def output_snr(weight, decoded, hessian):
    error = weight.astype(np.float64) - decoded
    return 10 * np.log10(np.trace(weight @ hessian @ weight.T) / np.trace(error @ hessian @ error.T))


def weight_snr(weight, decoded):
    return 10 * np.log10((weight.astype(np.float64) ** 2).sum() / ((weight.astype(np.float64) - decoded) ** 2).sum())


def signs(packed, count):
    return 1 - 2 * np.unpackbits(np.array(packed), count=count, bitorder="little").astype(np.float64)


def dense_rotations(arrays, rows, columns):
    """The two rotations that the stored signs stand for, as dense matrices: powers of two only."""
    left = sylvester(rows) / np.sqrt(rows) * signs(arrays["output_signs"], rows)
    right = sylvester(columns) / np.sqrt(columns) * signs(arrays["input_signs"], columns)
    return left, right


def slow_nearest(vectors):
    """(rows, 8) → the nearest of the 65,536 words, all of them tried."""
    words = e8_lattice.table().astype(np.float64)
    return np.array([((words - vector) ** 2).sum(1).argmin() for vector in vectors])


def slow_ldlq(target, hessian):
    """Blocks in order; before each, the columns not yet encoded move to the minimum of the output error."""
    rows, size = target.shape
    decoded, codes = np.zeros_like(target), np.zeros((rows, size // 8), np.int64)
    for block in range(size // 8):
        here, done, free = slice(8 * block, 8 * block + 8), slice(0, 8 * block), slice(8 * block, size)
        moved = target[:, free].copy()
        if block:
            error = target[:, done] - decoded[:, done]
            moved += error @ hessian[done, free] @ np.linalg.inv(hessian[free, free])
        codes[:, block] = slow_nearest(moved[:, :8])
        decoded[:, here] = e8_lattice.table()[codes[:, block]]
    return codes, decoded


def rotated_problem(arrays, weight, hessian, damping):
    """The weight in units of the codebook and the damped Hessian, both turned by the dense rotations."""
    left, right = dense_rotations(arrays, *weight.shape)
    damped = hessian.astype(np.float32) + damping * np.diag(hessian).mean() * np.eye(len(hessian))
    return left @ weight @ right.T / float(arrays["scale"].item()), right @ damped @ right.T


def test_codes_are_those_of_the_slow_reference():
    weight, hessian = gaussian(16, 64), correlated(64)
    arrays, decoded = encoded(weight, hessian, bits=2, passes=0)
    target, turned = rotated_problem(arrays, weight, hessian, 0.01)
    codes, _ = slow_ldlq(target, turned)
    assert (np.array(arrays["codes"]) == codes).mean() > 0.98  # float32 may fall to the other side of a tie
    left, right = dense_rotations(arrays, *weight.shape)
    words = e8_lattice.table()[np.array(arrays["codes"])].reshape(16, 64)
    np.testing.assert_allclose(decoded, left.T @ words @ right * arrays["scale"].item(), atol=1e-6)


@pytest.mark.parametrize("passes", [0, 2])
def test_without_correlations_every_block_gets_its_nearest_word(passes):
    """LDLQ with H = I equals rounding to the nearest word, and passes after it change nothing."""
    weight = gaussian(32, 128)
    arrays, _ = encoded(weight, np.eye(128), bits=2, passes=passes)
    target, _ = rotated_problem(arrays, weight, np.eye(128), 0)
    expected = slow_nearest(target.reshape(-1, 8)).reshape(32, 16)
    assert (np.array(arrays["codes"]) == expected).mean() > 0.995


def test_passes_lower_the_damped_error_until_no_block_can_be_changed():
    weight, hessian = gaussian(32, 64), correlated(64)
    errors = []
    for passes in (0, 1, 2, 12):
        arrays, _ = encoded(weight, hessian, bits=2, passes=passes)
        target, turned = rotated_problem(arrays, weight, hessian, 0.01)
        error = target - e8_lattice.table()[np.array(arrays["codes"])].reshape(32, 64)
        errors.append(np.trace(error @ turned @ error.T) * arrays["scale"].item() ** 2)
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.97 * errors[0]
    pull = error @ turned
    for start in range(0, 64, 8):  # the last arrays: the word nearest to the block's best value is no better
        here = slice(start, start + 8)
        now = target[:, here] - error[:, here]
        step = e8_lattice.table()[slow_nearest(now + pull[:, here] @ np.linalg.inv(turned[here, here]))] - now
        gained = 2 * (step * pull[:, here]).sum(1) - ((step @ turned[here, here]) * step).sum(1)
        assert (gained <= 1e-3).mean() > 0.96


@pytest.mark.parametrize(("bits", "snr"), [(2, 10.39), (3, 15.3), (4, 20.95)])
def test_the_output_snr_is_that_of_the_closed_form(bits, snr):
    """SNR of the codebook for Gaussian vectors + 10 log10(tr H / tr D), D the block diagonal of the turned Hessian."""
    size = 384
    weight, hessian = gaussian(256, size), correlated(size)
    arrays, decoded = encoded(weight, hessian, bits=bits, passes=0)
    _, m, k = hadamard.blocks(size)
    matrix = np.kron(hadamard.paley(m), sylvester(2**k)) / np.sqrt(size) * signs(arrays["input_signs"], size)
    turned = matrix @ (hessian + 0.01 * np.eye(size)) @ matrix.T
    inverse = np.linalg.inv(turned)
    trace = 0.0
    for start in range(0, size, 8):  # Schur complements, from the blocks of the inverse of what is still open
        trace += np.trace(np.linalg.inv(inverse[start : start + 8, start : start + 8]))
        inverse = inverse - inverse[:, start : start + 8] @ np.linalg.solve(
            inverse[start : start + 8, start : start + 8], inverse[start : start + 8]
        )
        inverse[start : start + 8, start : start + 8] = np.eye(8)
    white = np.eye(size, dtype=np.float32)
    alone = output_snr(weight, encoded(weight, white, bits=bits, passes=0)[1], white)
    assert alone == pytest.approx(snr, abs=0.3)
    assert output_snr(weight, decoded, hessian) == pytest.approx(alone + 10 * np.log10(size / trace), abs=0.3)


def bound_db(hessian, bits):
    """Reverse water-filling: what no code of so many bits can exceed."""
    eigenvalues = np.linalg.eigvalsh(hessian)
    levels = np.geomspace(eigenvalues.min() * 1e-4, eigenvalues.max(), 4000)
    rates = np.array([np.mean(0.5 * np.log2(np.maximum(eigenvalues / level, 1))) for level in levels])
    level = np.interp(-bits, -rates, levels)
    return 10 * np.log10(eigenvalues.mean() / np.minimum(level, eigenvalues).mean())


@pytest.mark.parametrize(("bits", "gap"), [(2, 3.4), (3, 4.2), (4, 4.5)])
@pytest.mark.parametrize("tails", ["gauss", "student"])
def test_the_distance_to_the_bound(bits, gap, tails):
    """On the 1024² layer problem 3.1, 3.8 and 4.1 dB are left to the bound; heavy tails of the weight do not matter."""
    weight, hessian = gaussian(256, 512), correlated(512, seed=3)
    if tails == "student":
        weight = (0.015 * np.random.default_rng(1).standard_t(5, weight.shape)).astype(np.float32)
    arrays, decoded = encoded(weight, hessian, bits=bits)
    stored = 8 * sum(array.nbytes for array in arrays.values()) / weight.size
    reached = output_snr(weight, decoded, hessian)
    assert bound_db(hessian, stored) - gap < reached < bound_db(hessian, stored)


@pytest.mark.parametrize(("bits", "snr"), [(2, 10.39), (3, 15.32), (4, 20.98)])
def test_the_weight_snr_without_correlations_is_the_codebooks(bits, snr):
    weight = gaussian(512, 512)
    _, decoded = encoded(weight, np.eye(512), bits=bits)
    assert weight_snr(weight, decoded) == pytest.approx(snr, abs=0.05)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_rotation_helps_with_outliers_in_weight_and_inputs(bits):
    """A few weights 50 times larger than the rest cost nothing: their size is spread before the words are chosen."""
    weight, hessian = gaussian(128, 256), np.eye(256)
    weight[5, 7], weight[90, 200] = 1, -1
    _, decoded = encoded(weight, hessian, bits=bits)
    assert weight_snr(weight, decoded) > {2: 9.8, 3: 14.4, 4: 19.5}[bits]


@pytest.mark.parametrize(("bits", "kinds"), [(2, ("uint16",)), (3, ("uint16", "uint8")), (4, ("uint16", "uint16"))])
def test_stored_bytes_are_the_formula(bits, kinds):
    """`bits` per weight, one per row and column, 32 for the scale."""
    arrays, _ = encoded(gaussian(64, 128), correlated(128), bits=bits)
    assert set(arrays) == {"input_signs", "output_signs", "scale", "codes"} | ({"fine_codes"} if bits > 2 else set())
    for name, kind in zip(("codes", "fine_codes"), kinds, strict=False):
        assert str(arrays[name].dtype).endswith(kind)
        assert arrays[name].shape == (64, 16)
    assert 8 * sum(array.nbytes for array in arrays.values()) == bits * 64 * 128 + 64 + 128 + 32


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_all_parts_of_the_codes_are_used(bits):
    arrays, _ = encoded(gaussian(256, 256), correlated(256), bits=bits)
    codes = np.array(arrays["codes"])
    assert len(np.unique(codes >> 8)) == len(np.unique(codes & 255)) == 256
    assert len(np.unique(codes)) > 5000  # of 8,192
    if bits > 2:
        assert len(np.unique(np.array(arrays["fine_codes"]) & 255)) == 256


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_comes_back(bits, shape):
    weight, hessian = gaussian(*shape), correlated(shape[1])
    arrays, decoded = encoded(weight, hessian, bits=bits)
    assert decoded.shape == shape
    assert output_snr(weight, decoded, hessian) > 5 * bits
    padded = -(-shape[1] // 8) * 8
    assert arrays["codes"].shape == (shape[0], padded // 8)
    assert ("in_features" in arrays) == (padded != shape[1])


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ((4096, 4096), ""),
        ((3584, 18944), ""),
        ((8, 172), "rows padded from 172 to 176"),
        ((172, 64), "outputs rotated in 43 blocks of 4"),
        ((17, 33), "rows padded from 33 to 40, outputs rotated in 17 blocks of 1"),
        ((64, 184), "inputs rotated in 23 blocks of 8"),
    ],
)
def test_what_was_done_otherwise_is_noted(shape, note):
    assert Quip(bits=2).note(shape, {}) == note


def test_padding_takes_up_error():
    """Nothing ever enters through the padding, so errors may go there: no worse than a width that needs none."""
    weight = gaussian(128, 169)
    _, decoded = encoded(weight, np.eye(169), bits=2)
    assert weight_snr(weight, decoded) > 10.4


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_hard_matrices(bits):
    hessian = correlated(64)
    _, zero = encoded(np.zeros((8, 64), np.float32), hessian, bits=bits)
    np.testing.assert_array_equal(zero, 0)
    for value in (0.75, -3.0, 1e-39, 1e30):
        constant = np.full((16, 64), value, np.float32)
        _, decoded = encoded(constant, hessian, bits=bits)
        assert np.isfinite(decoded).all()
        assert output_snr(constant / abs(value), decoded / abs(value), hessian) > 4 * bits - 1
        assert np.abs(decoded).max() <= 3 * abs(value)
    outlier = gaussian(16, 64)
    outlier[3, 5] = 1e4
    _, decoded = encoded(outlier, hessian, bits=bits)
    assert np.isfinite(decoded).all()
    assert decoded[3, 5] == pytest.approx(1e4, rel=0.2)


def test_inputs_that_were_never_there():
    """A Hessian of zeros, and one whose tokens are fewer than the inputs."""
    weight = gaussian(32, 64)
    _, decoded = encoded(weight, np.zeros((64, 64)), bits=2)
    assert weight_snr(weight, decoded) > 10
    inputs = np.random.default_rng(0).standard_normal((10, 64))
    inputs[:, :20] = 0
    hessian = inputs.T @ inputs / 10
    _, decoded = encoded(weight, hessian, bits=2)
    assert np.isfinite(decoded).all()
    assert output_snr(weight, decoded, hessian) > 13


def test_a_scaled_matrix_comes_back_scaled():
    weight, hessian = gaussian(32, 128), correlated(128)
    _, one = encoded(weight, hessian, bits=2)
    for factor in (4.0, 2.0**-20):
        np.testing.assert_array_equal(
            encoded(np.float32(factor) * weight, hessian, bits=2)[1], np.float32(factor) * one
        )


def test_more_bits_less_error():
    weight, hessian = gaussian(64, 128), correlated(128)
    reached = [output_snr(weight, encoded(weight, hessian, bits=bits)[1], hessian) for bits in (2, 3, 4)]
    assert np.diff(reached).min() > 4.5


def test_the_seed_decides_the_signs_and_the_arrays_are_reproducible():
    weight, hessian = gaussian(32, 64), correlated(64)
    first, second = (encoded(weight, hessian, seed=0, bits=3)[0] for _ in range(2))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    other, _ = encoded(weight, hessian, seed=1, bits=3)
    assert not np.array_equal(first["input_signs"], other["input_signs"])
    assert not np.array_equal(first["output_signs"], other["output_signs"])


def test_the_arrays_survive_a_file(tmp_path):
    arrays, decoded = encoded(gaussian(16, 172), correlated(172), bits=4)
    save(tmp_path / "a.safetensors", arrays)
    loaded = load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(np.array(Quip(bits=4).decode(loaded)), decoded)


def test_bfloat16_weights_are_taken():
    weight, hessian = gaussian(16, 64).astype(ml_dtypes.bfloat16), correlated(64)
    arrays = Quip(bits=4).encode(weight, statistics(hessian), 0)
    original = weight.astype(np.float32)
    assert output_snr(original, np.array(Quip(bits=4).decode(arrays)), hessian) > 22


def test_what_cannot_be_done_is_said():
    with pytest.raises(QuantbenchError, match=r"bits = 8.*2, 3, 4"):
        Quip(bits=8)
    with pytest.raises(QuantbenchError, match="quip needs calibration"):
        Quip(bits=2).encode(np.zeros((8, 8)), None, 0)
