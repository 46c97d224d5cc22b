import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.measures.sweep import points
from pytest_quantbench.measures.sweep.samples import Point


def of_kind(kind, positions=None):
    return [(each.rows, each.depth) for each in points.points(positions, 30, 5, 64) if each.kind == kind]


def test_the_points_that_the_page_names():
    decode = of_kind("decode")
    assert {each for each in decode if each[1] == 512} == {(rows, 512) for rows in (1, 2, 4, 8, 16, 32)}
    assert {depth for rows, depth in decode if rows == 1} == {0, 512, 2048, 8192}
    assert len(decode) == len(set(decode)) == 9
    assert of_kind("prefill") == [(1, 128 * 2**place) for place in range(7)]
    assert of_kind("end to end") == [(1, 30)]
    assert of_kind("requests") == [(4, 512), (16, 512)]


@pytest.mark.parametrize(("positions", "depth"), [(None, 512), (576, 512), (575, 256), (512, 256), (100, 32), (64, 0)])
def test_batches_are_as_deep_as_the_model_has_room_for(positions, depth):
    assert points.batch_depth(positions) == depth


@given(st.integers(65, 10_000))
def test_a_batch_always_fits(positions):
    depth = points.batch_depth(positions)
    point = Point(kind="decode", rows=1, depth=depth, new_tokens=points.DECODED)
    assert points.too_long(point, positions) == ""
    assert depth in (0, 512) or 2 * depth + points.DECODED > positions


def test_what_does_not_fit_is_told():
    point = Point(kind="decode", rows=1, depth=8192, new_tokens=64)
    assert points.too_long(point, 4096) == "it takes 8,256 positions, and the model has 4,096"
    assert points.too_large(10, 10) == ""
    assert "about 3.00 GB beside the weights, and 2.00 GB" in points.too_large(3 * 10**9, 2 * 10**9)


def test_requests_are_of_unlike_lengths_by_the_seed():
    point = Point(kind="requests", rows=16, depth=512, new_tokens=32)
    found = points.lengths(point, 0)
    assert found == points.lengths(point, 0) != points.lengths(point, 1)
    assert all(16 <= length <= 512 for length in found)
    assert len(set(found)) > 8
    assert points.lengths(Point(kind="decode", rows=2, depth=0, new_tokens=8), 0) == [1, 1]


def test_texts_go_round_the_tokens_and_begin_elsewhere():
    first, second = points.texts(list(range(10)), [25, 3])
    assert first == [*range(10), *range(10), *range(5)]
    assert second == [7, 8, 9]
