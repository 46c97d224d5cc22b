"""Names beside points: none covers another, a mark or the edge; and long ones stay apart."""

from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.report.charts import labels
from pytest_quantbench.report.charts.labels import Box, box, lay_out, short, short_of_all

POINTS = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 200)), min_size=1, max_size=12)


@given(POINTS, st.data())
def test_no_name_covers_anything(points, data):
    names = [data.draw(st.text("abc", min_size=1, max_size=15)) for _ in points]
    places = lay_out(points, names, 300, 200)
    placed = [(p, box(p, name, at)) for p, name, at in zip(points, names, places, strict=True) if at is not None]
    marks = [Box(left=x - 5, top=y - 5, right=x + 5, bottom=y + 5) for x, y in points]
    for number, (_, mine) in enumerate(placed):
        assert mine.left >= 0
        assert mine.right <= 300
        assert mine.top >= 0
        assert mine.bottom <= 200
        assert not any(mine.covers(mark) for mark in marks)
        assert not any(mine.covers(other) for _, other in placed[number + 1 :])


def test_a_point_by_itself_has_its_name_beside_it():
    assert lay_out([(150, 100)], ["int4"], 300, 200) == [labels.PLACES[0]]
    assert lay_out([(5, 100)], ["int4"], 300, 200) == [labels.PLACES[1]]  # no room on the left


def test_a_name_keeps_clear_of_lines():
    line = labels.strokes([(0.0, 100.0), (150.0, 100.0)])
    assert lay_out([(150, 100)], ["int4"], 300, 200, line) == [labels.PLACES[1]]


def test_where_there_is_no_room_the_name_is_left_out():
    assert lay_out([(10, 10)], ["a-long-name"], 40, 20) == [None]


def test_long_names_lose_their_middle():
    assert short("int4-gptq") == "int4-gptq"
    assert short("a" * 15 + "b" * 15) == "a" * 10 + "…" + "b" * 10


def test_names_that_begin_alike_are_told_apart_by_what_follows():
    names = [f"owner-of-a-long-name-model-{kind}.gguf" for kind in ("Q4_K_M", "Q3_K_S")]
    found = short_of_all([*names, "int4"])
    assert found[2] == "int4"
    assert "Q4_K_M" in found[0]
    assert "Q3_K_S" in found[1]
    assert all(len(name) <= labels.MOST_LETTERS for name in found)
    assert len(set(short_of_all([names[0], names[0]]))) == 1


@given(st.tuples(st.floats(0, 100), st.floats(0, 100)), st.tuples(st.floats(0, 100), st.floats(0, 100)))
def test_pieces_of_a_stroke_cover_both_of_its_ends(begin, end):
    pieces = labels.strokes([begin, end])
    for x, y in (begin, end):
        spot = Box(left=x - 0.01, top=y - 0.01, right=x + 0.01, bottom=y + 0.01)
        assert any(piece.covers(spot) for piece in pieces)
