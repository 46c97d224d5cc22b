"""Names beside points: each is read as its own point's, none covers another, a mark or the edge; long ones differ."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.report.charts import labels
from pytest_quantbench.report.charts.labels import View, lay_out, short, short_of_all

NAMES = st.text("abc", min_size=1, max_size=15)
SPOTS = st.tuples(st.floats(0, 300), st.floats(0, 200))
CLOSE = st.tuples(st.floats(140, 160), st.floats(95, 105))  # that cover each other
NAMED = st.lists(st.tuples(SPOTS | CLOSE, NAMES), min_size=1, max_size=12)


def view(points, width=300, height=200, **strokes):
    return View(points=points, width=width, height=height, **strokes)


def box(point, name, place):
    """Left, top, right and bottom, as text is drawn."""
    wide = labels.LETTER * len(name)
    x, y = point[0] + place.dx, point[1] + place.dy
    left = x - {"left": 0, "center": wide / 2, "right": wide}[place.align]
    return left, y - labels.HEIGHT / 2, left + wide, y + labels.HEIGHT / 2


def far(box, point):
    """How far a point is from a box."""
    left, top, right, bottom = box
    return math.dist(point, (min(max(point[0], left), right), min(max(point[1], top), bottom)))


def meet(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def along(point, place):
    """Spots on the line that leads from a point to its name."""
    return [(point[0] + share * place.end[0], point[1] + share * place.end[1]) for share in np.linspace(0, 1, 60)]


def placed(named, places):
    return [(point, box(point, name, at), at) for (point, name), at in zip(named, places, strict=True) if at]


@given(NAMED)
def test_a_name_is_nearer_to_its_own_point_than_to_any_other_or_a_line_leads_to_it(named):
    points = [point for point, _ in named]
    for number, at in enumerate(lay_out([view(points)], [name for _, name in named])):
        if at is None or at.led:
            continue
        mine = box(points[number], named[number][1], at)
        others = [far(mine, point) for place, point in enumerate(points) if place != number]
        assert all(far(mine, points[number]) < other for other in others)


@given(NAMED)
def test_a_line_to_a_name_ends_at_it_and_leads_past_other_points_and_names(named):
    points = [point for point, _ in named]
    found = placed(named, lay_out([view(points)], [name for _, name in named]))
    for point, mine, at in found:
        if not at.led:
            continue
        line = along(point, at)
        assert far(mine, line[-1]) <= 2 + 1e-9
        others = [other for other in points if math.dist(other, point) > 2 * labels.MARK]
        assert all(far((*spot, *spot), other) > labels.MARK for spot in line for other in others)
        names = [other for _, other, _ in found if other != mine]
        assert not any(far(other, spot) == 0 for spot in line for other in names)


@given(NAMED)
def test_no_name_covers_anything(named):
    points = [point for point, _ in named]
    found = placed(named, lay_out([view(points)], [name for _, name in named]))
    marks = [(x - labels.MARK, y - labels.MARK, x + labels.MARK, y + labels.MARK) for x, y in points]
    for number, (_, mine, _) in enumerate(found):
        assert min(mine[:2]) >= 0
        assert mine[2] <= 300
        assert mine[3] <= 200
        assert not any(meet(mine, mark) for mark in marks)
        assert not any(meet(mine, other) for _, other, _ in found[number + 1 :])


@given(NAMED, st.sampled_from([1.5, 2.0, 4.0]))
def test_a_place_holds_at_every_width_that_it_was_laid_out_for(named, wider):
    points = [point for point, _ in named]
    stretched = [(x * wider, y) for x, y in points]
    names = [name for _, name in named]
    places = lay_out([view(points), view(stretched, width=300 * wider)], names)
    for at_width in (points, stretched):
        found = placed(list(zip(at_width, names, strict=True)), places)
        for number, (point, mine, at) in enumerate(found):
            assert not any(meet(mine, other) for _, other, _ in found[number + 1 :])
            others = [far(mine, other) for other in at_width if other != point]
            assert at.led or all(far(mine, point) < other for other in others)


@given(NAMED, st.lists(SPOTS, min_size=2, max_size=4))
def test_no_name_lies_on_a_limit(named, ends):
    limit = labels.strokes(ends)
    places = lay_out([view([point for point, _ in named], barred=limit)], [name for _, name in named])
    assert not any(meet(mine, piece) for _, mine, _ in placed(named, places) for piece in limit)


def test_a_point_by_itself_has_its_name_beside_it():
    assert lay_out([view([(150, 100)])], ["int4"]) == [labels.PLACES[0]]
    assert lay_out([view([(5, 100)])], ["int4"]) == [labels.PLACES[1]]  # no room on the left


def test_points_that_cover_each_other_are_named_by_lines():
    places = lay_out([view([(150, 100), (151, 100), (150, 101)])], ["int4", "int4-gptq", "int4-rtn"])
    assert all(place is not None and place.led for place in places)


def test_a_name_keeps_clear_of_lines():
    line = labels.strokes([(0.0, 100.0), (150.0, 100.0)])
    assert lay_out([view([(150, 100)], drawn=line)], ["int4"]) == [labels.PLACES[1]]


def test_a_line_to_a_name_does_not_run_along_another_line():
    """Of two points close together on a line."""
    line = labels.strokes([(0.0, 100.0), (300.0, 100.0)])
    places = lay_out([view([(150, 100), (151, 100)], drawn=line)], ["int4", "int3"])
    assert all(place is not None and place.led and place.dy for place in places)


def test_where_there_is_no_room_the_name_is_left_out():
    assert lay_out([view([(10, 10)], width=40, height=20)], ["a-long-name"]) == [None]


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


@given(SPOTS, SPOTS)
def test_pieces_of_a_stroke_cover_both_of_its_ends(begin, end):
    pieces = labels.strokes([begin, end])
    for x, y in (begin, end):
        assert any(meet((x - 0.01, y - 0.01, x + 0.01, y + 0.01), piece) for piece in pieces)
