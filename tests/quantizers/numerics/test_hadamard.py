"""The Hadamard transform: exact orthogonality of every factor, and the whole against Kronecker products."""

import numpy as np
import pytest
from scipy.linalg import hadamard as scipy_sylvester

from pytest_quantbench.quantizers.numerics import hadamard

# hidden, feed-forward, attention and key-value widths of the catalogue's models, of Tiny and of stories260k
CATALOGUE = [64, 128, 172, 176, 256, 512, 768, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 7680, 8192, 8960]
CATALOGUE += [10240, 11008, 12288, 13824, 14336, 17408, 17920, 18432, 18944, 27648, 35840]
MIXED_WHOLE = [n for n in CATALOGUE if n != 172]
# multiples of 4 for which neither construction gives a matrix of that order times a power of two
PALEY_GAPS = {92, 116, 156, 172, 184, 188, 232, 236, 260}


def slow_matrix(n):
    """The dense transform of a length, from the definition: equal blocks, each P ⊗ S over the root of its order."""
    count, m, k = hadamard.blocks(n)
    block = np.kron(hadamard.paley(m).astype(np.float64), scipy_sylvester(2**k))
    return np.kron(np.eye(count), block / np.sqrt(m * 2**k))


@pytest.mark.parametrize("m", [m for m in range(4, hadamard.LARGEST + 1, 4) if hadamard._field(m)])
def test_every_paley_matrix_has_signs_and_orthogonal_rows(m):
    matrix = hadamard.paley(m)
    assert matrix.shape == (m, m)
    assert set(np.unique(matrix)) == {-1, 1}
    np.testing.assert_array_equal(matrix.astype(np.int64) @ matrix.T.astype(np.int64), m * np.eye(m, dtype=np.int64))


def test_fields_of_prime_powers_are_used():
    """28 = 27 + 1 and 344 = 343 + 1 need the fields of 3³ and 7³ elements, 100 = 2 (49 + 1) that of 7²."""
    assert [hadamard._field(m) for m in (28, 344, 100, 12, 36, 16)] == [27, 343, 49, 11, 17, None]


@pytest.mark.parametrize(("q", "p", "e"), [(7, 7, 1), (9, 3, 2), (25, 5, 2), (27, 3, 3)])
def test_half_of_a_field_are_squares_and_a_product_has_the_product_of_characters(q, p, e):
    characters = hadamard._characters(q)
    np.testing.assert_array_equal(np.diag(characters), 0)
    assert (characters[1:, 0] == 1).sum() == (characters[1:, 0] == -1).sum() == (q - 1) // 2
    np.testing.assert_array_equal(characters.T, characters * (1 if q % 4 == 1 else -1))  # χ(−1)
    assert characters[1, 0] == 1  # one is a square
    if e == 1:
        squares = {x * x % p for x in range(1, p)}
        assert {a for a in range(1, q) if characters[a, 0] == 1} == squares


@pytest.mark.parametrize("k", range(8))
def test_the_power_of_two_factor_is_sylvesters(k):
    np.testing.assert_array_equal(hadamard.sylvester(k), scipy_sylvester(2**k))


@pytest.mark.parametrize("n", MIXED_WHOLE)
def test_every_width_of_the_catalogue_is_one_block(n):
    count, m, k = hadamard.blocks(n)
    assert (count, m << k) == (1, n)
    assert m <= 500


@pytest.mark.parametrize(
    ("n", "blocks"),
    [
        (172, (43, 1, 2)),
        (1, (1, 1, 0)),
        (33, (33, 1, 0)),
        (6, (3, 1, 1)),
        (8960, (1, 140, 6)),
        (13824, (1, 108, 7)),
        (14336, (1, 28, 9)),
        (17920, (1, 140, 7)),
        (18944, (1, 148, 7)),
        (11008, (1, 344, 5)),
        (151936, (1187, 1, 7)),
        (128256, (167, 12, 6)),
    ],
)
def test_the_rule_for_blocks(n, blocks):
    """The largest block that Paley and powers of two allow; where he has none, several, down to single numbers."""
    assert hadamard.blocks(n) == blocks


def test_blocks_are_needed_just_where_paley_has_no_order():
    assert {n for n in range(4, 261, 4) if hadamard.blocks(n)[0] > 1} == PALEY_GAPS


@pytest.mark.parametrize("n", [1, 2, 3, 6, 12, 20, 28, 33, 36, 40, 60, 64, 92, 100, 128, 172, 176, 256, 344, 768])
def test_the_transform_is_the_kronecker_product(n):
    matrix = slow_matrix(n)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(n), atol=1e-12)
    columns = np.random.default_rng(n).standard_normal((n, 5)).astype(np.float32)
    np.testing.assert_allclose(hadamard.transform(columns), matrix @ columns, atol=3e-6)
    np.testing.assert_allclose(hadamard.transform(columns, inverse=True), matrix.T @ columns, atol=3e-6)


@pytest.mark.parametrize("n", CATALOGUE)
def test_the_transform_is_orthonormal(n):
    """HHᵀ = I through its two factors, a preserved norm and an inverse, at every width of the catalogue."""
    for factor in hadamard.factors(n):
        exact = factor.astype(np.float64)
        np.testing.assert_allclose(exact @ exact.T, np.eye(len(factor)), atol=1e-6)
    columns = np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32)
    turned = hadamard.transform(columns)
    assert turned.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(turned, axis=0), np.linalg.norm(columns, axis=0), rtol=1e-5)
    np.testing.assert_allclose(hadamard.transform(turned, inverse=True), columns, atol=1e-5)


@pytest.mark.parametrize("n", [64, 172, 768, 1024])
def test_the_whole_transform_times_its_transpose_is_the_identity(n):
    matrix = hadamard.transform(np.eye(n))
    np.testing.assert_allclose(matrix.astype(np.float64) @ matrix.T, np.eye(n), atol=1e-5)


@pytest.mark.parametrize("n", [8960, 13824, 14336, 18944])
def test_an_outlier_is_spread_evenly(n):
    outlier = np.zeros((n, 1))
    outlier[n // 3] = 1
    for inverse in (False, True):
        np.testing.assert_allclose(np.abs(hadamard.transform(outlier, inverse)), n**-0.5, rtol=1e-5)


def test_columns_are_transformed_alike_wherever_they_stand():
    """Columns go through in chunks, of which the last is shorter; strides and the input's type do not matter."""
    columns = np.random.default_rng(0).standard_normal((48, hadamard.CHUNK + 7))
    whole = hadamard.transform(columns)
    for column in (0, hadamard.CHUNK - 1, hadamard.CHUNK, hadamard.CHUNK + 6):
        alone = hadamard.transform(np.ascontiguousarray(columns[:, column : column + 1]).astype(np.float32))
        np.testing.assert_allclose(whole[:, column : column + 1], alone, atol=1e-6)
    np.testing.assert_allclose(hadamard.transform(np.asfortranarray(columns)), whole, atol=1e-6)


def test_the_factors_are_of_about_equal_order():
    """So that a vector costs about 2 n √n multiplications."""
    for n in MIXED_WHOLE:
        left, right = (len(factor) for factor in hadamard.factors(n))
        assert left * right == n
        assert left + right <= 3.2 * n**0.5 or hadamard.blocks(n)[1] > n**0.5


def test_a_block_of_a_divided_length_stands_alone():
    """172 has 43 blocks of 4: a number reaches just the four of its own block."""
    single = np.zeros((172, 1))
    single[9] = 1
    np.testing.assert_array_equal(np.flatnonzero(hadamard.transform(single)), [8, 9, 10, 11])
