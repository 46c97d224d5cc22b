"""The lattice codebooks: from their definition, and the fast search against a search of all 65,536 words."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_quantbench.quantizers.numerics import e8_lattice


def slow_words():
    """E8P from its definition: even half-integer vectors of squared norm up to 10 and 29 rows of 12, moved by ± ¼."""
    rows = [row for row in itertools.product((0.5, 1.5, 2.5), repeat=8) if sum(x * x for x in row) <= 10]
    assert len(rows) == 227
    rows += [tuple(row) for row in e8_lattice.rows()[227:] + 0.5]
    signs = np.array(list(itertools.product((1, -1), repeat=8)))
    halves = (np.array(rows)[:, None] * signs).reshape(-1, 8)
    halves = halves[halves.sum(1) % 2 == 0]
    return np.concatenate([halves + 0.25, halves - 0.25])


def brute(vectors, words):
    """Which of the words is nearest to every column, and how far it is: all of them tried, in float64."""
    words = words.astype(np.float64)
    distance = (words**2).sum(1)[:, None] - 2 * words @ vectors + (vectors.astype(np.float64) ** 2).sum(0)
    best = distance.argmin(0)
    return best, distance[best, np.arange(vectors.shape[1])]


def gaussian(count, rms=1.0, seed=0):
    return (rms * np.random.default_rng(seed).standard_normal((8, count))).astype(np.float32)


def squared(vectors, words):
    return ((vectors.astype(np.float64) - words) ** 2).sum(0)


def test_the_rows_are_227_and_29_of_norm_12():
    rows = e8_lattice.rows() + 0.5
    norms = (rows**2).sum(1)
    assert len(np.unique(rows, axis=0)) == 256
    assert (norms[:227] <= 10).all()
    np.testing.assert_array_equal(norms[227:], 12)
    assert {tuple(sorted(row)) for row in rows[227:]} == {(0.5,) * 3 + (1.5,) * 5}


def test_the_words_are_65536_and_those_of_the_definition():
    words = e8_lattice.table()
    assert words.shape == (65536, 8)
    assert len(np.unique(words, axis=0)) == 65536
    np.testing.assert_array_equal(np.unique(words, axis=0), np.unique(slow_words(), axis=0))


def test_the_words_are_in_the_shifted_lattice():
    """E8: all integers or all half-integers, with an even sum. Every word plus ¼, or minus ¼, is in E8 + ½."""
    moved = e8_lattice.table() - np.where(np.arange(65536) & 1, -0.25, 0.25)[:, None]
    np.testing.assert_array_equal(moved % 1, 0.5)
    np.testing.assert_array_equal(moved.sum(1) % 2, 0)


def test_an_index_has_a_row_signs_and_a_shift():
    index = (37 << 8) | (0b0000101 << 1) | 1
    word = e8_lattice.table()[index]
    np.testing.assert_array_equal(np.abs(word + 0.25), e8_lattice.rows()[37] + 0.5)
    np.testing.assert_array_equal(np.flatnonzero(word[:7] + 0.25 < 0), [0, 2])


@pytest.mark.parametrize(
    "rms", [0.05, 1.03, 1000.0, *(pytest.param(rms, marks=pytest.mark.slow) for rms in (0.5, 1.6, 4.0))]
)
def test_the_fast_search_finds_the_nearest_word(rms):
    vectors = gaussian(1200, rms, seed=int(10 * rms))
    (found,), words = e8_lattice.nearest(vectors, 2)
    np.testing.assert_array_equal(words, e8_lattice.table()[found].T)
    expected, distance = brute(vectors, e8_lattice.table())
    np.testing.assert_allclose(squared(vectors, words), distance, rtol=1e-5, atol=2e-5)
    if rms in (0.5, 1.03, 1.6):
        assert (found == expected).mean() > 0.999  # float32 may fall to the other side of a tie


def test_the_fast_search_on_vectors_of_one_large_coordinate_and_of_equal_ones():
    """Ties of magnitude in every column, and kinds of row that Gaussian vectors rarely need."""
    equal = np.array(list(itertools.product((-0.75, 0.0, 1.25), repeat=4))).repeat(2, axis=1).T
    single = np.eye(8)[:, :, None] * np.array([0.3, 1, 2.2, 3, 9])
    two = np.zeros((8, 20))
    two[2], two[5] = np.linspace(0, 4, 20), 1.7
    for vectors in (equal, single.reshape(8, -1), two, -two, np.zeros((8, 1)), np.full((8, 1), -2.0)):
        vectors = np.ascontiguousarray(vectors, np.float32)
        (found,), words = e8_lattice.nearest(vectors, 2)
        np.testing.assert_array_equal(words, e8_lattice.table()[found].T)
        np.testing.assert_allclose(squared(vectors, words), brute(vectors, e8_lattice.table())[1], atol=2e-5)


def test_every_word_is_its_own_nearest():
    (found,), words = e8_lattice.nearest(np.ascontiguousarray(e8_lattice.table().T), 2)
    np.testing.assert_array_equal(found, np.arange(65536))
    np.testing.assert_array_equal(words, e8_lattice.table().T)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-6, 6, width=32), min_size=8, max_size=8))
def test_the_fast_search_on_arbitrary_vectors(values):
    vector = np.array(values, np.float32)[:, None]
    _, words = e8_lattice.nearest(vector, 2)
    np.testing.assert_allclose(squared(vector, words), brute(vector, e8_lattice.table())[1], atol=1e-4)


def test_the_exchanges_sort():
    """A network that sorts every sequence of zeros and ones sorts every sequence."""
    assert len(e8_lattice._exchanges()) == 19
    keys = np.array(list(itertools.product((0, 1), repeat=8)), np.int32).T
    assert (np.diff(np.stack(e8_lattice._ranked(keys)), axis=0) <= 0).all()


def test_the_snr_for_a_gaussian_is_that_of_the_paper():
    """10.39 dB at a scale of 1.03 (Tseng et al. 2024; 12.04 is the limit at 2 bits)."""
    vectors = gaussian(1 << 17, e8_lattice.RMS[2])
    _, words = e8_lattice.nearest(vectors, 2)
    snr = 10 * np.log10((vectors.astype(np.float64) ** 2).sum() / squared(vectors, words).sum())
    assert snr == pytest.approx(10.39, abs=0.02)


@pytest.mark.parametrize(("bits", "snr"), [(3, 15.28), (4, 20.75)])
def test_two_stages_do_better_than_one_after_the_other(bits, snr):
    """The figures are of nearest words taken stage by stage; trying both shifts must not fall below."""
    vectors = gaussian(1 << 15, e8_lattice.RMS[bits])
    _, words = e8_lattice.nearest(vectors, bits)
    assert 10 * np.log10((vectors.astype(np.float64) ** 2).sum() / squared(vectors, words).sum()) > snr


@pytest.mark.parametrize("bits", [3, 4])
def test_two_stages_are_the_better_of_both_shifts(bits):
    vectors = gaussian(150, e8_lattice.RMS[bits], seed=bits)
    second = e8_lattice.coarse_table() if bits == 3 else e8_lattice.table()
    magnified = float(e8_lattice.FINER[bits])
    reached = []
    for shift in (0, 1):
        first = e8_lattice.table()[shift::2]
        left = vectors - first[brute(vectors, first)[0]].T
        reached.append(brute(left * magnified, second)[1] / magnified**2)
    _, words = e8_lattice.nearest(vectors, bits)
    np.testing.assert_allclose(squared(vectors, words), np.minimum(*reached), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_codes_are_looked_up_as_they_were_found(bits):
    vectors = gaussian(e8_lattice.CHUNK + 37, 2.0)
    codes, words = e8_lattice.nearest(vectors, bits)
    assert tuple(code.dtype.type for code in codes) == e8_lattice.KINDS[bits]
    assert sum(8 * code.nbytes for code in codes) == bits * vectors.size
    np.testing.assert_array_equal(e8_lattice.lookup(codes, bits).T, words)
    folded = tuple(code[:4096].reshape(64, 64) for code in codes)
    np.testing.assert_array_equal(e8_lattice.lookup(folded, bits).reshape(-1, 8).T, words[:, :4096])


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_part_of_the_codes_is_used(bits):
    codes, _ = e8_lattice.nearest(gaussian(1 << 15, e8_lattice.RMS[bits]), bits)
    assert len(np.unique(codes[0] >> 8)) == 256
    assert len(np.unique(codes[0] & 255)) == 256
    if bits > 2:
        assert len(np.unique(codes[1] & 255)) == 256


def test_the_coarse_words_are_the_shortest_of_the_lattice():
    words = e8_lattice.coarse_table()
    norms, counts = np.unique((words**2).sum(1), return_counts=True)
    np.testing.assert_array_equal(norms, [0, 2, 4])
    np.testing.assert_array_equal(counts, [1, 240, 15])
    assert len(np.unique(words, axis=0)) == 256
    np.testing.assert_array_equal(words.sum(1) % 2, 0)
    assert (np.ptp(words % 1, axis=1) == 0).all()  # all integers or all half-integers


def test_a_vector_is_encoded_alike_wherever_it_stands():
    vectors = gaussian(2 * e8_lattice.CHUNK + 1)
    (found,), _ = e8_lattice.nearest(vectors, 2)
    for place in (0, e8_lattice.CHUNK - 1, e8_lattice.CHUNK, 2 * e8_lattice.CHUNK):
        (alone,), _ = e8_lattice.nearest(np.ascontiguousarray(vectors[:, place : place + 1]), 2)
        assert alone[0] == found[place]
