"""Vector codes: the search against brute force, the codebooks against known figures, the storage bit by bit."""

import itertools

import numpy as np
import pytest

from pytest_quantbench.errors import QuantbenchError
from pytest_quantbench.quantizers.numerics import vector_codes
from pytest_quantbench.quantizers.numerics.vector_codes import Layout


def gauss(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("layout", [(4, 1), (1, 4), (1, 1)])
def test_a_matrix_is_cut_into_vectors_and_joined_again(layout):
    layout = Layout(inputs=layout[0], outputs=layout[1], stages=1, width=2)
    matrix = gauss(8, 12)  # (in, out)
    cut = layout.cut(matrix)
    assert cut.shape == (8 // layout.inputs, 12 // layout.outputs, layout.length)
    np.testing.assert_array_equal(layout.join(cut), matrix)
    first = matrix[: layout.inputs, : layout.outputs].ravel()
    np.testing.assert_array_equal(cut[0, 0], first)


@pytest.mark.parametrize(
    ("bits", "side", "expected"),
    [
        (2, 4096, (8, 2, 8)),
        (3, 4096, (8, 3, 8)),
        (4, 4096, (8, 4, 8)),
        (2, 1024, (8, 2, 8)),  # the codebooks are exactly a 32nd of the codes
        (2, 1016, (4, 1, 8)),
        (3, 512, (4, 2, 6)),
        (2, 64, (1, 1, 2)),  # 64 bits of codebook for 8,192 of codes; 512 would be too many
        (3, 8, (1, 1, 3)),
        (8, 4096, (8, 8, 8)),
        (5, 256, (4, 4, 5)),
    ],
)
def test_small_matrices_get_shorter_vectors(bits, side, expected):
    length, stages, width = vector_codes.fit(bits, side * side, 8, 8)
    assert (length, stages, width) == expected
    assert stages * width == bits * length
    assert length == 1 or 16 * stages * 2**width * length <= bits * side * side / 32


def test_a_larger_share_allows_a_larger_codebook():
    assert vector_codes.fit(2, 2**24, 8, 16) == (4, 1, 8)  # 65,536 words of 8 would add half a bit
    assert vector_codes.fit(2, 2**24, 8, 16, share=0.25) == (8, 1, 16)


def slow_search(points, books, beam):
    """The beam search in loops: partial sums of every point, the nearest few kept after each codebook."""
    codes = np.zeros((len(points), len(books)), int)
    for number, point in enumerate(points.astype(np.float64)):
        kept = [((), point)]
        for book in books:
            longer = [((*path, k), rest - book[k].astype(np.float64)) for path, rest in kept for k in range(len(book))]
            kept = sorted(longer, key=lambda item: float(item[1] @ item[1]))[:beam]
        codes[number] = kept[0][0]
    return codes


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_search_is_the_slow_beam_search(stages, beam):
    points, books = gauss(70, 4), gauss(stages, 8, 4, seed=1) * np.array([1, 0.6, 0.4])[:stages, None, None]
    books = books.astype(np.float32)
    np.testing.assert_array_equal(vector_codes.search(points, books, beam), slow_search(points, books, beam))


def test_a_beam_as_wide_as_the_codebook_is_exhaustive():
    points, books = gauss(100, 3), gauss(2, 8, 3, seed=2)
    pairs = np.array(list(itertools.product(range(8), repeat=2)))
    distance = np.square(points[:, None] - vector_codes.lookup(pairs, books)).sum(2)
    np.testing.assert_array_equal(vector_codes.search(points, books, 8), pairs[distance.argmin(1)])


@pytest.mark.parametrize("stages", [1, 2])
def test_a_weighted_search_is_nearest_in_the_weighted_distance(stages):
    """Places of a vector that count 100 times as much as others: often another word than the plain search's."""
    points, books = gauss(200, 3), gauss(stages, 16, 3, seed=2)
    weights = np.exp(2 * gauss(200, 3, seed=3)).astype(np.float32)
    every = np.array(list(itertools.product(range(16), repeat=stages)))
    distance = (weights[:, None] * np.square(points[:, None] - vector_codes.lookup(every, books))).sum(2)
    found = vector_codes.search(points, books, 16, weights)
    np.testing.assert_array_equal(found, every[distance.argmin(1)])
    np.testing.assert_allclose(vector_codes.distances(points, found, books, weights), distance.min(1), rtol=1e-4)
    assert (vector_codes.search(points, books, 16) != found).any(1).mean() > 0.2


def test_the_search_takes_any_number_of_points():
    """More than are scored together, and fewer than a panel."""
    books = gauss(2, 256, 2, seed=3)
    points = gauss(3000, 2, seed=4)
    whole = vector_codes.search(points, books, 4)
    for count in (1, 63, 64, 65, 2999):
        np.testing.assert_array_equal(vector_codes.search(points[:count], books, 4), whole[:count])


def test_a_wider_beam_is_nearer():
    points, books = gauss(2000, 8), gauss(3, 16, 8, seed=5) * np.float32(0.7)
    found = [vector_codes.lookup(vector_codes.search(points, books, beam), books) for beam in (1, 2, 8)]
    errors = [np.square(points - words).sum() for words in found]
    assert errors == sorted(errors, reverse=True)


def test_lookup_adds_the_words():
    books, codes = gauss(3, 4, 2), np.array([[[0, 1, 2]], [[3, 3, 0]]])
    expected = [[books[0, 0] + books[1, 1] + books[2, 2]], [books[0, 3] + books[1, 3] + books[2, 0]]]
    np.testing.assert_allclose(vector_codes.lookup(codes, books), expected, rtol=1e-6)


def test_sums_are_taken_code_by_code():
    codes, values = np.array([2, 0, 2], np.uint16), gauss(3, 2)
    np.testing.assert_allclose(vector_codes.sums(codes, values, 4), [values[1], [0, 0], values[0] + values[2], [0, 0]])


def snr(points, codes, books):
    return 10 * np.log10(np.square(points).sum() / np.square(points - vector_codes.lookup(codes, books)).sum())


@pytest.mark.parametrize(
    ("length", "stages", "width", "expected"),
    [(1, 1, 2, 9.30), (2, 1, 4, 9.64), (4, 1, 8, 10.10), (2, 1, 6, 15.21)],  # of unit Gaussians, large samples
)
def test_k_means_reaches_the_known_figures(length, stages, width, expected):
    layout = Layout(inputs=length, outputs=1, stages=stages, width=width)
    books = vector_codes.train(gauss(1, 60_000 // length, length), np.ones(1), layout, np.random.default_rng(0))
    fresh = gauss(20_000, length, seed=1)
    codes = vector_codes.search(fresh, books, 1)
    assert snr(fresh, codes, books) == pytest.approx(expected, abs=0.35)
    assert len(np.unique(codes)) == 2**width


def test_residual_codebooks_add_up():
    layout = Layout(inputs=4, outputs=1, stages=2, width=5)
    points = gauss(1, 8000, 4)
    books = vector_codes.train(points, np.ones(1), layout, np.random.default_rng(0))
    figures = [snr(points[0], vector_codes.search(points[0], books[:stages], 4), books[:stages]) for stages in (1, 2)]
    assert figures[0] == pytest.approx(6.0, abs=0.5)
    assert figures[1] - figures[0] > 5


def test_k_means_counts_points_by_their_importance():
    """Two clouds, one of which hardly counts: nearly all words are in the other."""
    clouds = np.stack([gauss(500, 2) - 10, gauss(500, 2, seed=1) + 10])
    layout = Layout(inputs=2, outputs=1, stages=1, width=4)
    books = vector_codes.train(clouds, np.array([1, 1e-6]), layout, np.random.default_rng(0))
    assert (books[0, :, 0] < 0).sum() >= 14


@pytest.mark.parametrize("count", [2000, 200_000])  # all points, and a sample of them
def test_k_means_gives_a_point_far_away_its_word(count):
    """One vector out of many is huge: it comes back, and the others are no worse than with a word less."""
    layout, points = Layout(inputs=2, outputs=1, stages=1, width=4), gauss(1, count, 2)
    usual = vector_codes.train(points, np.ones(1), layout, np.random.default_rng(0))
    points[0, 7] = 500, -300
    books = vector_codes.train(points, np.ones(1), layout, np.random.default_rng(0))
    found = vector_codes.lookup(vector_codes.search(points[0], books, 1), books)
    np.testing.assert_allclose(found[7], points[0, 7], rtol=1e-3)
    others = gauss(5000, 2, seed=1)
    figures = [snr(others, vector_codes.search(others, known, 1), known) for known in (usual, books)]
    assert figures[1] > figures[0] - 1


def test_a_sample_of_points_stands_for_all():
    """Its weighted means are those of all points, and it holds the one that matters more than thousands of others."""
    points, weights = gauss(50_000, 2), np.exp(gauss(50_000, seed=1).astype(np.float64))
    points[77] = 300, 0
    few, counts = vector_codes._thinned(points, weights, 10_000, np.random.default_rng(0))
    assert few.shape == (10_000, 2)
    assert few[:, 0].max() == 300
    assert np.average(few[:, 0], weights=counts) == pytest.approx(np.average(points[:, 0], weights=weights), abs=0.05)
    power = [np.average(np.square(kept).sum(1), weights=share) for kept, share in ((points, weights), (few, counts))]
    assert power[1] == pytest.approx(power[0], rel=0.05)
    same, unchanged = vector_codes._thinned(points, weights, 50_000, np.random.default_rng(0))
    assert same is points
    assert unchanged is weights


def test_draws_start_with_the_largest_then_follow_the_odds_and_do_not_repeat():
    rng, odds = np.random.default_rng(0), np.array([1.0, 3.0, 0.0, 9.0, 2.0])
    pairs = np.array([vector_codes._draw(odds, 2, rng) for _ in range(4000)])
    assert (pairs[:, 0] == 3).all()
    np.testing.assert_allclose(np.bincount(pairs[:, 1], minlength=5) / 4000, [1 / 6, 1 / 2, 0, 0, 1 / 3], atol=0.03)
    assert set(vector_codes._draw(odds, 4, rng)) == {0, 1, 3, 4}
    assert set(vector_codes._draw(odds, 11, rng)) == {0, 1, 2, 3, 4}  # more than there are


def test_k_means_survives_fewer_points_than_words():
    layout = Layout(inputs=2, outputs=1, stages=2, width=4)
    points = gauss(1, 3, 2)
    books = vector_codes.train(points, np.ones(1), layout, np.random.default_rng(0))
    np.testing.assert_allclose(
        vector_codes.lookup(vector_codes.search(points[0], books, 4), books), points[0], atol=1e-5
    )


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("along", ["inputs", "outputs"])
def test_stored_codes_decode_to_the_same_words(width, along):
    layout = Layout(**({"inputs": 1, "outputs": 1} | {along: 2}), stages=3, width=width)
    rng, books = np.random.default_rng(0), gauss(3, 2**width, 2)
    codes = rng.integers(0, 2**width, (6 // layout.inputs, 4 // layout.outputs, 3)).astype(np.uint16)
    stream = vector_codes.stored(codes, width)
    assert stream.dtype == np.uint8
    assert len(stream) == -(-codes.size // 8) * width
    expected = layout.join(vector_codes.lookup(codes, books))
    np.testing.assert_array_equal(vector_codes.decoded(stream, books, layout, 6, 4), expected)
    np.testing.assert_array_equal(
        vector_codes.decoded(stream, books, layout, 6 - (along == "inputs"), 4 - (along == "outputs")), expected
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1024, 1024), ""),
        ((1024, 1025), "rows padded from 1025 to 1032"),
        ((64, 64), "vectors of 1 instead of 8 weights with 1 codebook of 4 words, one scale for all rows"),
        ((3, 175), "vectors of 1 instead of 8 weights with 1 codebook of 4 words, one scale for all rows"),
    ],
)
def test_what_is_done_otherwise_is_said(shape, expected):
    length, stages, width = vector_codes.fit(2, shape[0] * shape[1], 8, 8)
    layout = Layout(inputs=length, outputs=1, stages=stages, width=width)
    assert vector_codes.note(layout, 8, 2, shape) == expected


@pytest.mark.parametrize("parameters", [{"bits": 9}, {"bits": 0}, {"codebook_bits": 17}, {"group_size": 6}])
def test_parameters_that_make_no_code_are_refused(parameters):
    (field, value) = next(iter(parameters.items()))
    with pytest.raises(QuantbenchError, match=f"aqlm cannot have {field} = {value}"):
        vector_codes.check("aqlm", **({"bits": 2, "codebook_bits": 8, "group_size": 8} | parameters))
